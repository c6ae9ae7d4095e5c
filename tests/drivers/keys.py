"""Keys for applications under test: a register that is filled by hand."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from identity.keys.administration import USUAL_SCOPES, digest_at
from identity.keys.authenticator import KeyAuthenticator
from identity.keys.key_record import KeyRecord, encode_key
from identity.keys.key_text import KeyKind, new_key
from identity.keys.register import Register
from identity.keys.uses import KeyUses
from web.policies.identity import Identity
from web.policies.principal import AccessScope

ORIGIN = "https://shop.example"


class HandMadeRegister:
    """Keys by what they are, each made once."""

    def __init__(self) -> None:
        self.register = Register()
        self.identity = Identity([KeyAuthenticator(lambda: self.register, KeyUses())])

    def key(
        self,
        kind: KeyKind = "secret",
        scopes: Collection[AccessScope] = (),
        *,
        tenant: str = "default",
        expires_in: timedelta | None = None,
        revoked: bool = False,
        origins: Sequence[str] = (ORIGIN,),
    ) -> str:
        """A new key."""
        now, key = datetime.now(UTC), new_key(kind)
        number = len(self.register.records) + 1
        record = KeyRecord(
            key_id=f"k{number}",
            kind=kind,
            tenant_id=tenant,
            name="for a test",
            scopes=frozenset(scopes) or USUAL_SCOPES[kind],
            digests=(digest_at(key, now),),
            created_at=now,
            created_by="test",
            origins=tuple(origins) if kind == "public" else (),
            expires_at=None if expires_in is None else now + expires_in,
            revoked_at=now if revoked else None,
        )
        self.register.apply(record.key_id, encode_key(record))
        return key

    def change(self, key_id: str, **changes: object) -> None:
        """Writes the record of a key anew."""
        record = msgspec.structs.replace(self.register.records[key_id], **changes)
        self.register.apply(key_id, encode_key(record))
