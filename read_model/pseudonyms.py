"""Pseudonyms of users: what the register of erasures and the journals say instead of an id.

A pseudonym is HMAC-SHA256 of tenant and user id with a random key that lies in the database beside it. Who has the
whole database can test a guess, so it is personal data still; without the key it tells nothing. The key is not in a
file of its own: a rebuild that has lost it would bring erased users back.
"""

import hashlib
import hmac

from read_model.connecting.pool import Connection

KEY = "SELECT key FROM ops.pseudonym_key"


async def pseudonym_key(connection: Connection) -> bytes:
    """Returns the key. Only footfall_writer and the owner may read it."""
    key: bytes = await connection.fetchval(KEY)
    return key


def pseudonym(key: bytes, tenant_id: str, user_id: str) -> bytes:
    """Returns the pseudonym of a user, 32 bytes; tenants hold no NUL, so no two users share a text."""
    return hmac.digest(key, f"{tenant_id}\0{user_id}".encode(), hashlib.sha256)
