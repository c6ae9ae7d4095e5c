"""One entry of the audit log, and how every room writes it: by the one function that its roles may call.

A role can append and do nothing else; see migration 0013 and docs/audit.md.
"""

import hashlib
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from read_model.connecting.pool import Connection

# A deed is `begun` before anything is done, and has one more entry afterwards. Without one, it was cut off: nobody
# knows how far it came. What changes nothing and cannot fail halfway has one entry, `done`.
Outcome = Literal["begun", "done", "refused", "failed"]

WRITE = "SELECT ops.write_audit($1, $2, $3, $4, $5, $6, $7, $8)"
FIRST_NOTE_ID = UUID(int=1 << 96)  # every UUIDv7 is greater, and every id of an erasure's entry is less
NOT_THERE = (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError)


class AuditUnavailableError(Exception):
    """The audit log cannot be written, so what it should tell of must not be done."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did.

    `actor`: who, such as `alice@host` or `key:<id>`; never a secret. `tenant_id`: whose data; empty: of every tenant.
    `target`: what it was done to, without personal data. `user_id`: the user it was about; only a pseudonym of it is
    stored. `request_id`: the same in all entries of one deed. `entry_id`: of a note that came by Kafka, and is written
    once, or of an erasure: `entry_id_of_erasure`.
    """

    actor: str
    action: str
    outcome: Outcome
    tenant_id: str = ""
    target: str = ""
    user_id: str | None = None
    request_id: str = ""
    entry_id: UUID | None = None


def digest_of(tenant_id: str, user_id: str) -> bytes:
    """Hashes a user id, so that PostgreSQL never sees it, also not in a log of slow statements.

    The database hashes it once more, with a key that no role can read: that is the pseudonym.
    """
    return hashlib.sha256(f"{len(tenant_id)}:{tenant_id}{user_id}".encode()).digest()


def entry_id_of_erasure(erasure_id: UUID) -> UUID:
    """The id of an erasure's one entry. It has no time, so that notes are read on from the newest note."""
    return UUID(int=erasure_id.int & ((1 << 80) - 1))


async def write_entry(connection: Connection | asyncpg.Pool, entry: AuditEntry) -> int:
    """Appends an entry and returns its number. The lock that orders the writers ends with the transaction.

    So that no writer waits for long, call it in no transaction, or at the end of a short one.

    Raises:
        AuditUnavailableError: The database has no audit log yet.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: It cannot be written.
    """
    digest = None if entry.user_id is None else digest_of(entry.tenant_id, entry.user_id)
    fields = (
        *(entry.actor, entry.tenant_id, entry.action, entry.target, digest),
        *(entry.outcome, entry.request_id, entry.entry_id),
    )
    try:
        number: int = await connection.fetchval(WRITE, *fields)
    except NOT_THERE as error:
        raise AuditUnavailableError("The database has no audit log yet. First: footfall migrate") from error
    return number
