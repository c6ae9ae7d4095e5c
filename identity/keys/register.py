"""The register of keys in memory: the records of its topic, folded in their order."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from identity.keys.key_record import KeyRecord, decode_key
from identity.keys.key_text import ALLOWED_SCOPES
from telemetry.logs import get_logger
from web.policies.principal import Principal

NEVER = float("inf")


class KnownKey(msgspec.Struct, frozen=True, gc=False):
    """What one text of a key stands for."""

    principal: Principal
    key_id: str
    valid_until: float  # seconds since 1970, or NEVER; of a revoked key a time that is over
    is_revoked: bool
    origins: frozenset[bytes] | None  # None: the key is for no browser, and nobody asks


class Register:
    """All keys. A revocation is never undone: whatever comes behind it, the key stays revoked."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}
        self._by_digest: dict[bytes, KnownKey] = {}
        self._origins: frozenset[bytes] | None = None  # None: a record came since they were derived

    def apply(self, key_id: str, value: bytes | None) -> None:
        """Folds one record. What cannot be read closes the key that it is about."""
        before = self.records.pop(key_id, None)
        if before is not None:
            for text in before.digests:
                self._by_digest.pop(bytes.fromhex(text.sha256), None)
        record = self._readable(key_id, value)
        if record is not None:
            if before is not None and before.revoked_at is not None and record.revoked_at is None:
                record = msgspec.structs.replace(record, revoked_at=before.revoked_at)
            self.records[key_id] = record
            self._by_digest |= known_keys(record)
        self._origins = None

    @property
    def origins(self) -> frozenset[bytes]:
        """Those of all public keys that are not revoked."""
        if self._origins is None:
            self._origins = frozenset(origins_of(self.records.values()))
        return self._origins

    def find(self, digest: bytes) -> KnownKey | None:
        """The key with this digest."""
        return self._by_digest.get(digest)

    def _readable(self, key_id: str, value: bytes | None) -> KeyRecord | None:
        if value is None:
            return None
        try:
            record = decode_key(value)
            known_keys(record)
        except (msgspec.MsgspecError, ValueError):
            get_logger("identity").error("key_record_unreadable", key_id=key_id)
            return None
        return record if record.key_id == key_id else None


def known_keys(record: KeyRecord) -> Mapping[bytes, KnownKey]:
    """What each text of a key stands for, by its digest. Scopes that its kind may not have are left out."""
    principal = Principal(
        record.tenant_id, f"key:{record.key_id}", record.scopes & ALLOWED_SCOPES[record.kind], key_space_of(record)
    )
    origins = frozenset(origin.encode() for origin in record.origins) if record.kind == "public" else None
    return {
        bytes.fromhex(text.sha256): KnownKey(
            principal,
            record.key_id,
            0.0 if record.revoked_at is not None else min(seconds(record.expires_at), seconds(text.expires_at)),
            record.revoked_at is not None,
            origins,
        )
        for text in record.digests
    }


def key_space_of(record: KeyRecord) -> str:
    """Public keys have each a space of idempotency keys of their own: a visitor can claim nobody else's."""
    return record.key_id if record.kind == "public" else ""


def origins_of(records: Iterable[KeyRecord]) -> Iterable[bytes]:
    """Where browsers may send from, by any public key that is not revoked."""
    return (origin.encode() for record in records if record.revoked_at is None for origin in record.origins)


def seconds(moment: datetime | None) -> float:
    """Since 1970; NEVER for None."""
    return NEVER if moment is None else moment.timestamp()
