"""Reads the evidence with plain clients: the whole topic with aiokafka, whole tables with asyncpg."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from asyncpg import PostgresError

from chaos.checking import history
from chaos.checking.compare import Evidence
from chaos.checking.reference_model import KEYS, Record, Row

__all__ = ["KafkaError", "PostgresError", "evidence", "lag", "read_tables", "read_topic", "value"]

READ_WITHIN = 120.0  # seconds
LAG = "SELECT partition, next_offset FROM {generation}.checkpoints WHERE topic = $1"


async def evidence(kafka: str, topic: str, database: str, path: Path, generation: str = "read_g1") -> Evidence:
    """Reads history, log and tables. Nothing may be written meanwhile."""
    async with asyncio.timeout(READ_WITHIN):
        records, ends = await read_topic(kafka, topic)
        return Evidence(history.read(path), records, ends, await read_tables(database, topic, generation))


async def read_topic(kafka: str, topic: str) -> tuple[list[Record], dict[int, int]]:
    """Reads every committed record, in the order of each partition, and the end offsets."""
    async with _consumer(kafka, topic) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        await consumer.seek_to_beginning()
        found: list[Record] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200, max_records=20_000)).values():
                found += [Record(r.partition, r.offset, r.key, json_of(r.value), dict(r.headers)) for r in records]
        return found, {tp.partition: end for tp, end in ends.items()}


def json_of(value: bytes | None) -> bytes | None:
    """The value without the frame of Confluent's serializers: a zero byte and four of a schema's id."""
    return value[5:] if value is not None and value[:1] == b"\0" else value


@asynccontextmanager
async def _consumer(kafka: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Yields a consumer of all partitions, which belongs to no group."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_tables(database: str, topic: str, generation: str) -> dict[str, Sequence[Row]]:
    """Reads every row of every table of a generation."""
    connection = await asyncpg.connect(database)
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    try:
        found: dict[str, Sequence[Row]] = {}
        for table in KEYS:
            found[table] = _plain(await connection.fetch(f"SELECT * FROM {generation}.{table}"))
        letters = f"SELECT * FROM {generation}.dead_letters WHERE kafka_topic = $1"
        found["dead_letters"] = _plain(await connection.fetch(letters, topic))
        checkpoints = f"SELECT * FROM {generation}.checkpoints WHERE topic = $1"
        found["checkpoints"] = _plain(await connection.fetch(checkpoints, topic))
    finally:
        await connection.close()
    return found


def _plain(rows: Sequence[Any]) -> list[Row]:
    return [dict(row) for row in rows]


async def lag(kafka: str, topic: str, database: str, generation: str = "read_g1") -> int:
    """Returns the records between the checkpoints and the log's end; negative if a checkpoint is beyond the end."""
    async with _consumer(kafka, topic) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch(LAG.format(generation=generation), topic)
    finally:
        await connection.close()
    at = {row["partition"]: row["next_offset"] for row in rows}
    behind = [end - at.get(tp.partition, 0) for tp, end in ends.items()]
    return sum(behind) if all(b >= 0 for b in behind) else min(behind)


def value(database: str, sql: str) -> object:
    """Returns the single value of a query. Raises OSError or PostgresError."""
    return asyncio.run(_value(database, sql))


async def _value(database: str, sql: str) -> object:
    connection = await asyncpg.connect(database, timeout=5)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()
