"""The erasure markers of a log: whom they are of, and up to which offsets."""

from collections.abc import Mapping
from uuid import UUID

import asyncpg
import msgspec

from contracts.erasure import SealedErasure, erasure_of, sealed_erasure_of
from contracts.sealed.events import stub_name
from operations.refusal import RefusedError
from operations.rewrite.substitutes import NOBODY_SEALED, SealedErasures, SourceRecord
from projector.privacy.erased_users import User
from projector.sealed.register import pseudonyms_of
from read_model.pseudonyms import pseudonym_key


class SealedMarkers(msgspec.Struct):
    """The markers of one erasure in the sealed log: the offset of each, by partition."""

    erasure: SealedErasure
    until: dict[int, int] = msgspec.field(default_factory=dict)

    @property
    def stub(self) -> str:
        """A user id that markers of no subject delete, as the projector reads them without any key."""
        return stub_name(str(self.erasure.erasure_id))


class Marked(msgspec.Struct, frozen=True):
    """The erased users that a rewrite covers: the offset of the last marker of each, by partition."""

    until: dict[User, dict[int, int]]
    markers: int
    sealed: SealedErasures = NOBODY_SEALED

    @property
    def users(self) -> int:
        """How many users are erased. Who was erased before and after the log was sealed counts twice."""
        return len(self.until) + len(self.sealed.until)


class Markers:
    """Collects the markers of a log as it is read, each partition in its order."""

    def __init__(self) -> None:
        self._until: dict[User, dict[int, int]] = {}
        self._sealed: dict[UUID, SealedMarkers] = {}
        self._count = 0

    def add(self, record: SourceRecord) -> None:
        """Looks at one record."""
        erasure = erasure_of(record.value)
        if erasure is not None:
            self._count += 1
            self._until.setdefault((erasure.tenant_id, erasure.user_id), {})[record.partition] = record.offset
        elif (sealed := sealed_erasure_of(record.value)) is not None:
            self._count += 1
            of_one = self._sealed.setdefault(sealed[0].erasure_id, SealedMarkers(sealed[0]))
            of_one.until[record.partition] = record.offset

    async def marked(self, connection: asyncpg.Connection) -> Marked:
        """Returns whom they are of. Raises RefusedError if only a projector can tell, and none has yet."""
        sealed = await _sealed(connection, self._sealed) if self._sealed else NOBODY_SEALED
        return Marked(self._until, self._count, sealed)


async def _sealed(connection: asyncpg.Connection, found: Mapping[UUID, SealedMarkers]) -> SealedErasures:
    """Learns by which pseudonyms the users of sealed markers are known."""
    known = await pseudonyms_of(connection, list(found))
    waiting = found.keys() - {erasure_id for erasure_id, _ in known}
    if waiting:
        raise RefusedError(
            f"The log has {len(waiting)} erasures that no projector has applied, and only a projector can tell whom"
            " they are of. Let one run; then try again."
        )
    until: dict[bytes, dict[int, int]] = {}
    names: dict[bytes, str] = {}
    for erasure_id, pseudonym in sorted(known, key=lambda one: max(found[one[0]].until.values())):
        markers = found[erasure_id]
        last = until.setdefault(pseudonym, {})
        for partition, offset in markers.until.items():
            last[partition] = max(offset, last.get(partition, -1))
        by_subject = bool(markers.erasure.subject_ids) or names.get(pseudonym) == stub_name(pseudonym.hex())
        names[pseudonym] = stub_name(pseudonym.hex()) if by_subject else markers.stub
    return SealedErasures(await pseudonym_key(connection), until, names)
