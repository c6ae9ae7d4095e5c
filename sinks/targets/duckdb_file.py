"""A DuckDB database as a target: one table of events, and the positions beside them in the same transaction.

DuckDB lets one process write a file and then nobody else open it. So the file is closed while nothing comes, and opened
for the next batch; whoever reads meanwhile makes the sink wait.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import duckdb
import pyarrow as pa
import uuid_utils

from projector.writing.failure import OutsideError
from sinks.target import (
    Document,
    DocumentRefusedError,
    Gone,
    Identity,
    TargetAwayError,
    TargetIsOlderError,
    TargetRefusesError,
    TooMuchError,
)

FORMAT = 1
REASON = 300  # characters of what DuckDB says of a file
CLOSE_AFTER = 1.0  # seconds without a batch until the file is closed

CREATE = (
    "CREATE TABLE IF NOT EXISTS footfall_sink (target UUID, format INTEGER)",
    """CREATE TABLE IF NOT EXISTS events (
        tenant_id VARCHAR NOT NULL, event_id UUID NOT NULL, user_id VARCHAR NOT NULL, event_type VARCHAR NOT NULL,
        occurred_at TIMESTAMP NOT NULL, recorded_at TIMESTAMP NOT NULL, payload JSON NOT NULL,
        kafka_partition INTEGER NOT NULL, kafka_offset BIGINT NOT NULL, PRIMARY KEY (tenant_id, event_id)
    )""",
    "CREATE TABLE IF NOT EXISTS positions (kafka_partition INTEGER PRIMARY KEY, next_offset BIGINT NOT NULL)",
)
INSERT = """
INSERT INTO events
SELECT tenant_id, event_id::UUID, user_id, event_type, occurred_at, recorded_at, payload::JSON, kafka_partition,
       kafka_offset
FROM batch ON CONFLICT DO NOTHING RETURNING tenant_id, event_id
"""
MOVE = "INSERT OR REPLACE INTO positions SELECT kafka_partition, next_offset FROM moved"
ERASE = """
DELETE FROM events USING gone
WHERE events.tenant_id = gone.tenant_id AND events.user_id = gone.user_id
  AND events.kafka_partition = gone.kafka_partition AND events.kafka_offset < gone.before
"""
_MOMENT = pa.timestamp("us")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("tenant_id", "event_id", "user_id", "event_type")),
        pa.field("occurred_at", _MOMENT),
        pa.field("recorded_at", _MOMENT),
        pa.field("payload", pa.string()),
        pa.field("kafka_partition", pa.int32()),
        pa.field("kafka_offset", pa.int64()),
    ]
)
# The record may be at fault, and nothing else.
OF_RECORDS = (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.ConstraintException)

Result = TypeVar("Result")


class DuckDbFile:
    """One DuckDB database file. One thread does all its work: a call that is given up ends before the next begins."""

    lanes = 1
    one_only = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="duckdb")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._target: UUID | None = None
        # The positions that the file must have, whoever replaced it while it was closed.
        self._known: dict[int, int] = {}
        self._is_older = False
        self._closing: asyncio.TimerHandle | None = None

    async def open(self) -> UUID:
        """Creates the file if it is missing, and returns the id that was given to it then."""
        self._target = await self._do(_prepared)
        return self._target

    async def close(self) -> None:
        """Closes the file."""
        if self._closing is not None:
            self._closing.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._closed)
        self._thread.shutdown(wait=False)

    async def positions(self) -> Mapping[int, int]:
        """Returns the next offset of each partition."""
        return await self._do(self._told_positions, looks_back=True)

    def _told_positions(self, connection: duckdb.DuckDBPyConnection) -> dict[int, int]:
        self._known, self._is_older = _positions(connection), False
        return dict(self._known)

    async def write(self, documents: Sequence[Document], positions: Mapping[int, int]) -> set[Identity]:
        """Stores documents and positions in one transaction."""
        return await self._do(lambda c: self._and_known(_written(c, documents, positions), positions))

    def _and_known(self, stored: set[Identity], positions: Mapping[int, int]) -> set[Identity]:
        self._known.update(positions)
        return stored

    async def erase(self, gone: Sequence[Gone]) -> None:
        """Deletes users, and lets the file forget the blocks that they were in."""
        await self._do(lambda c: _erased(c, gone))

    async def users(self, tenant_id: str) -> set[str]:
        """Returns the names of all users of a tenant."""
        statement = "SELECT DISTINCT user_id FROM events WHERE tenant_id = ?"
        return {name for (name,) in await self._do(lambda c: c.execute(statement, [tenant_id]).fetchall())}

    async def known_good_fails(self) -> OutsideError | None:
        """Writes a stored event again, under an id of its own, and rolls it back."""
        try:
            await self._do(_tried)
        except DocumentRefusedError as error:
            return error
        return None

    async def _do(self, work: "Callable[[duckdb.DuckDBPyConnection], Result]", *, looks_back: bool = False) -> Result:
        if self._closing is not None:
            self._closing.cancel()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._done, work, looks_back)
        finally:
            self._closing = loop.call_later(CLOSE_AFTER, self._thread.submit, self._closed)

    def _done(self, work: "Callable[[duckdb.DuckDBPyConnection], Result]", looks_back: bool) -> Result:
        with self._told_errors():
            if self._connection is None:
                self._connection = self._opened()
            if self._is_older and not looks_back:
                raise TargetIsOlderError(f"{self._path} lacks what was written: it was restored, or made anew.")
            return work(self._connection)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        """Opens the file. While it was closed, anybody may have put another in its place."""
        connection = duckdb.connect(str(self._path))
        try:
            if self._target is not None and _prepared(connection, self._target) != self._target:
                raise TargetRefusesError(f"{self._path} is another sink's now. Restart this one to begin in it.")
            found = _positions(connection) if self._known else {}
        except BaseException:
            connection.close()
            raise
        self._is_older |= any(found.get(partition, -1) < offset for partition, offset in self._known.items())
        return connection

    def _closed(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _told_errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise TooMuchError(f"{type(error).__name__} of {self._path}") from error
        except OF_RECORDS as error:
            raise DocumentRefusedError(f"{type(error).__name__} of {self._path}") from error
        except (
            duckdb.IOException,
            duckdb.FatalException,
            duckdb.InternalException,
            duckdb.ConnectionException,
        ) as error:
            self._closed()  # a fatal error ends the database's use; whoever reads it will be gone soon
            raise TargetAwayError(f"{self._path} cannot be written now: {_reason(error)}") from error
        except duckdb.Error as error:
            raise TargetRefusesError(f"{self._path} cannot be written: {type(error).__name__}") from error


def _reason(error: duckdb.Error) -> str:
    """What is wrong with the file. Of other errors only the class: their text may quote an event."""
    if not isinstance(error, duckdb.IOException):
        return type(error).__name__
    said = str(error).partition("\n")[0].removeprefix("IO Error: ").partition(". ")[0]
    return said[:REASON].rstrip(".!")


def _prepared(connection: duckdb.DuckDBPyConnection, target: UUID | None = None) -> UUID:
    """Makes what the file lacks, and returns the id that it has. `target`: the id of a new file; None: any."""
    with _transaction(connection):
        for statement in CREATE:
            connection.execute(statement)
        found = connection.execute("SELECT target, format FROM footfall_sink").fetchone()
        if found is None:
            found = (target or UUID(int=uuid_utils.uuid7().int), FORMAT)
            connection.execute("INSERT INTO footfall_sink VALUES (?, ?)", list(found))
    if found[1] != FORMAT:
        raise TargetRefusesError(f"The file has format {found[1]}, and this release writes {FORMAT}.")
    target_id: UUID = found[0]
    return target_id


def _positions(connection: duckdb.DuckDBPyConnection) -> dict[int, int]:
    return dict(connection.execute("SELECT kafka_partition, next_offset FROM positions").fetchall())


def _written(
    connection: duckdb.DuckDBPyConnection, documents: Sequence[Document], positions: Mapping[int, int]
) -> set[Identity]:
    new: set[Identity] = set()
    with _transaction(connection):
        if documents:
            with _named(connection, "batch", _table(documents)):
                new = {(tenant, event_id) for tenant, event_id in connection.execute(INSERT).fetchall()}
        if positions:
            moved = pa.table({"kafka_partition": list(positions), "next_offset": list(positions.values())})
            with _named(connection, "moved", moved):
                connection.execute(MOVE)
    return {document.identity for document in documents} - new


def _erased(connection: duckdb.DuckDBPyConnection, gone: Sequence[Gone]) -> None:
    rows = [(each.tenant_id, user, each.partition, each.before) for each in gone for user in each.users]
    names = ("tenant_id", "user_id", "kafka_partition", "before")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    with _transaction(connection), _named(connection, "gone", table):
        connection.execute(ERASE)
    connection.execute("FORCE CHECKPOINT")


def _tried(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN")
    try:
        again = "INSERT INTO events SELECT * REPLACE (gen_random_uuid() AS event_id) FROM events LIMIT 1 RETURNING 1"
        if not connection.execute(again).fetchall():
            raise TargetRefusesError("The file refuses an event, and there is none yet to compare it with.")
    finally:
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def _named(connection: duckdb.DuckDBPyConnection, name: str, table: Any) -> Iterator[None]:
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)


def _table(documents: Sequence[Document]) -> Any:
    columns = [
        [each.tenant_id for each in documents],
        [str(each.event_id) for each in documents],
        [each.user_id for each in documents],
        [each.event_type for each in documents],
        [each.occurred_at.replace(tzinfo=None) for each in documents],
        [each.recorded_at.replace(tzinfo=None) for each in documents],
        [each.payload.decode() for each in documents],
        [each.partition for each in documents],
        [each.offset for each in documents],
    ]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
