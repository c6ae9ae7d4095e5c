"""Measures PostgreSQL's fastest way to store rows: `python -m bench.references.bare_copy '<BareCopy as JSON>'`.

It copies the rows that the projector makes of the same records, in order of time. The rows are encoded beforehand; only
the COPY transactions are timed. It prints one `Copied` as JSON.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Sequence

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from command_side.settings import CommandSettings
from projector.writing.rows import COLUMNS, EventRow, copy_bytes, to_row
from read_model.names import GENERATION


class BareCopy(msgspec.Struct, frozen=True):
    """Which records to read, and how to write them. The partitions are shared out among the connections."""

    topic: str
    partitions: int
    count: int
    database_url: str
    connections: int
    durable: bool = True  # whether a COMMIT waits for the disk; PostgreSQL's default
    rows_a_transaction: int = 5_000


class Copied(msgspec.Struct, frozen=True):
    """The rows, and the seconds that the transactions took."""

    rows: int
    seconds: float


async def copy(task: BareCopy) -> Copied:
    """Encodes all rows and connects, and then times the COPY transactions."""
    chunks_of = encoded(await read(task), task)
    connections = [await connect(task) for _ in chunks_of]
    gc.disable()
    started = time.perf_counter()
    await asyncio.gather(*(write(*pair) for pair in zip(connections, chunks_of, strict=True)))
    elapsed = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return Copied(task.count, elapsed)


async def read(task: BareCopy) -> list[EventRow]:
    """Reads the topic's events as rows, oldest first."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=CommandSettings().kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(task.topic, partition) for partition in range(task.partitions)])
        rows: list[EventRow] = []
        while len(rows) < task.count:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                rows += [row for record in records if isinstance(row := to_row(record), EventRow)]
    finally:
        await consumer.stop()
    rows.sort(key=lambda row: row.event.event_id.bytes)  # a UUIDv7 begins with its time
    return rows


def encoded(rows: Sequence[EventRow], task: BareCopy) -> list[list[bytes]]:
    """Returns, for each connection, the bytes of its transactions."""
    shares: list[list[EventRow]] = [[] for _ in range(task.connections)]
    for row in rows:
        shares[row.partition % task.connections].append(row)
    size = task.rows_a_transaction
    return [[copy_bytes(share[at : at + size]) for at in range(0, len(share), size)] for share in shares]


async def connect(task: BareCopy) -> asyncpg.Connection:
    """Opens a connection whose commits are durable or not, as the task says."""
    settings = {"synchronous_commit": "on" if task.durable else "off"}
    return await asyncpg.connect(task.database_url, server_settings=settings)


async def write(connection: asyncpg.Connection, chunks: Sequence[bytes]) -> None:
    """Copies each chunk in a separate transaction."""
    for chunk in chunks:
        async with connection.transaction():
            await connection.copy_to_table(
                "processed_events",
                schema_name=GENERATION,
                columns=COLUMNS,
                source=memoryview(chunk),  # type: ignore[arg-type]  # bytes would be taken for a file name
                format="binary",
            )


if __name__ == "__main__":
    found = uvloop.run(copy(msgspec.json.decode(sys.argv[1], type=BareCopy)))
    print(msgspec.json.encode(found).decode())
