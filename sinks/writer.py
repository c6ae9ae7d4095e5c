"""Commits a batch to a sink: checkpoints and dead letters in PostgreSQL, and within that transaction the target.

The transaction locks the checkpoints first, so an owner that lost its partition writes nothing. The target is written
before the commit. If the commit fails, the same events come again, and the target knows them by their ids.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from contracts.sealed.events import stub_name
from contracts.types import Catalogue
from projector.dead_letters.parking import park
from projector.failpoints import reached
from projector.privacy.erased_users import stub_id
from projector.privacy.letters import erase_letters
from projector.privacy.marker import Marker
from projector.sealed.register import pseudonyms_of
from projector.writing.commit import Batch, Committed, Fenced, FencedError, GenerationWriter
from projector.writing.conflicts import count_as_duplicates, identity
from projector.writing.failure import OutsideError
from projector.writing.rows import UNIX_EPOCH, EventRow
from read_model.connecting.pool import Connection
from read_model.pseudonyms import pseudonym, pseudonym_key
from sinks.holder import TARGET, AnotherTargetError
from sinks.sealed import subject_name
from sinks.target import Document, Gone, Target, TargetIsOlderError

STUB = subject_name("")  # how the names of users of the sealed log begin


class ErasureNotAppliedError(OutsideError):
    """Nobody knows yet whom a sealed marker names: the read model has not met it."""

    def __init__(self) -> None:
        super().__init__("The sink waits until the read model has applied an erasure of the sealed log.")


class SinkWriter(GenerationWriter):
    """Commits batches to one sink: the schema named `generation`, and its target."""

    ordered = False

    def __init__(
        self, name: str, catalogue: Catalogue, target: Target, target_id: UUID, tenants: frozenset[str]
    ) -> None:
        """`tenants`: whose events are written; empty: everybody's."""
        super().__init__(name, catalogue, projections=())
        self._target, self._target_id, self._tenants = target, target_id, tenants

    async def _store(self, connection: Connection, batch: Batch) -> Committed | Fenced:
        positions = {advance.partition: advance.new_offset for advance in batch.advances}
        rows = [row for row in batch.rows if not self._tenants or row.event.tenant_id in self._tenants]
        try:
            async with connection.transaction():
                await self._advance_checkpoints(connection, batch)
                await self._check_target(connection)
                await reached("after_checkpoint")
                stored = await self._target.write(list(map(document_of, rows)), positions)
                await reached("after_rows")
                known = [row for row in rows if identity(row) in stored]
                known += batch.repeats  # a target forgets nothing for its age
                await count_as_duplicates(connection, self.generation, known)
                await park(connection, self.generation, batch.letters)
                emptied = bool(batch.markers) and await self._erase(connection, batch.markers)
                await reached("before_commit")
        except (FencedError, TargetIsOlderError):  # the claim that follows moves the checkpoints back to what it has
            return Fenced()
        repeats = sum(advance.duplicates for advance in batch.advances)
        return Committed(len(rows) + len(batch.repeats) - len(known), repeats + len(known), letters_emptied=emptied)

    async def apply(self, connection: Connection, rows: Sequence[EventRow]) -> list[EventRow]:
        """Writes rows, as `GenerationWriter.apply`; returns those that were stored before. It moves no position."""
        await self._check_target(connection)
        wanted = [row for row in rows if not self._tenants or row.event.tenant_id in self._tenants]
        stored = await self._target.write(list(map(document_of, wanted)), {})
        return [row for row in wanted if identity(row) in stored]

    async def _check_target(self, connection: Connection) -> None:
        """Raises AnotherTargetError if the register says that the sink has another target."""
        if await connection.fetchval(TARGET, self.generation) != self._target_id:
            raise AnotherTargetError(self.generation)

    async def stored_row_fails(self) -> Exception | None:
        """Returns why a document that is stored already could not be written now; None: it could."""
        try:
            return await self._target.known_good_fails()
        except OutsideError as error:
            return error

    async def _erase(self, connection: Connection, markers: Sequence[Marker]) -> bool:
        """Deletes the users of markers from the target, and empties their letters. Returns whether there were any."""
        secret = await pseudonym_key(connection)
        sealed = {marker.user[0] for marker in markers if marker.subject_ids}
        plain = {tenant: await self._plain_users(secret, tenant) for tenant in sealed}
        erased = [(m, await self._names(connection, secret, m, plain)) for m in markers]
        await self._target.erase([Gone(m.user[0], tuple(sorted(names)), m.partition, m.offset) for m, names in erased])
        await reached("after_projections")
        gone = [((m.user[0], name), m.partition, m.offset) for m, names in erased for name in (*names, *m.subject_ids)]
        return await erase_letters(connection, self.generation, markers[0].topic, gone)

    async def _plain_users(self, secret: bytes, tenant_id: str) -> dict[bytes, str]:
        """Returns the users of a tenant who are stored by name, from before the log was sealed, by pseudonym."""
        names = await self._target.users(tenant_id)
        return {pseudonym(secret, tenant_id, name): name for name in names if not name.startswith(STUB)}

    async def _names(
        self, connection: Connection, secret: bytes, marker: Marker, plain: Mapping[str, Mapping[bytes, str]]
    ) -> set[str]:
        """Returns every name under which the user of a marker may be stored.

        A sink opens nothing, so a sealed marker does not tell it whom it names. The read model's register has the
        pseudonym of whom it names.

        Raises:
            ErasureNotAppliedError: The register does not have the erasure yet.
        """
        names = {marker.user[1], stub_id(secret, marker.user), *map(subject_name, marker.subject_ids)}
        by_pseudonym = plain[marker.user[0]] if marker.subject_ids else {}
        if not by_pseudonym:
            return names
        wanted = {found for _, found in await pseudonyms_of(connection, [marker.erasure.erasure_id])}
        if not wanted:
            raise ErasureNotAppliedError
        stubs = {stub_name(each.hex()) for each in wanted}  # in a log that was rewritten, and sealed before
        return names | stubs | {name for each, name in by_pseudonym.items() if each in wanted}


def document_of(row: EventRow) -> Document:
    """Returns the document of a row."""
    event = row.event
    return Document(
        event.tenant_id,
        event.event_id,
        event.user_id,
        event.event_type,
        event.timestamp,
        UNIX_EPOCH + timedelta(milliseconds=row.recorded_at_ms),
        row.payload,
        row.partition,
        row.offset,
    )
