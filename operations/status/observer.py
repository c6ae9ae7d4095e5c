"""Collects the status of every generation: position and owner of each partition, and counts of dead letters.

It reads PostgreSQL as whatever role DATABASE_URL names, reader or writer, and joins no consumer group, so it changes
nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from brokers.rights import no_topic
from contracts.topic_promises import broken_promises
from contracts.types import Catalogue
from operations.differing_catalogues import differing_catalogues
from operations.misplaced_records import Misplaced, count_misplaced
from operations.status.report import (
    GenerationStatus,
    LetterCount,
    SinkStatus,
    Status,
    partition_status,
    problems,
    progress,
    standing,
)
from projector.consuming.consumer_group import describe_group
from projector.consuming.log_probe import LogOffsets, LogProbe
from projector.consuming.topic_description import describe_topic
from projector.generations.loop import group_of
from projector.liveness.projecting import Facts, judge
from projector.liveness.verdicts import Stalled
from projector.settings import ProjectorSettings
from projector.writing.locks import blocking_lock
from read_model.connecting.pool import connect
from read_model.generations.event_types import event_types_in_use
from read_model.generations.register import PROJECTED, Generation, list_generations
from read_model.names import READ
from read_model.tables.schema_version import newest_migration, schema_state

LOOK_PATIENCE = 3.0  # seconds to read the first records after the checkpoints of one generation
LOCK_TIMEOUT = "SET lock_timeout = '2s'"  # status names who holds a lock, and does not wait for it itself
SECOND_LOOK = 2.0  # seconds until a partition that seems to stand still is looked at again

READABLE = """
SELECT coalesce(bool_or(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), false)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'checkpoints'
"""
CHECKPOINTS = """
SELECT partition, next_offset, owner, stopped_reason, extract(epoch FROM now() - updated_at)::float8 AS advanced
FROM {schema}.checkpoints WHERE topic = $1
"""
SINKS = "SELECT name FROM ops.sinks ORDER BY name"
MAY_COUNT = "SELECT has_table_privilege(format('%I.dead_letters', $1::text), 'SELECT')"
PARKED = "SELECT count(*) FROM {sink}.dead_letters WHERE kafka_topic = $1 AND state = 'parked'"
LETTERS = """
SELECT cause, state, count(*) AS count FROM read.dead_letters WHERE kafka_topic = $1
GROUP BY cause, state ORDER BY cause, state
"""


class Observer:
    """Collects one status after another over the same connections."""

    def __init__(
        self, settings: ProjectorSettings, catalogue: Catalogue | None, connection: asyncpg.Connection, probe: LogProbe
    ) -> None:
        self._settings, self._catalogue = settings, catalogue
        self._topic = settings.kafka_topic
        self._connection = connection
        self._probe = probe

    async def status(self, max_lag: int | None = None) -> Status:
        """Collects the status now.

        Args:
            max_lag: Events that a partition of the active generation may lag before that is a problem; None: any.

        Raises:
            OSError, KafkaError, asyncpg.PostgresError: A server cannot be reached or refuses.
        """
        partitions = await self._probe.partitions_of(self._topic)
        generations = [await self._generation(found, partitions) for found in await list_generations(self._connection)]
        letters = [
            LetterCount(row["cause"], row["state"], row["count"])
            for row in await self._connection.fetch(LETTERS, self._topic)
        ]
        missing = [] if partitions else [no_topic(self._topic, "DESCRIBE")]
        schema = await schema_state(self._connection, newest_migration())
        missing += [f"{schema.detail[0].upper()}{schema.detail[1:]}."] if schema.detail else []
        sinks = [] if schema.detail else await self._sinks(partitions)
        found = [sentence for each in generations for sentence in problems(each, max_lag)]
        found += [sentence for each in sinks for sentence in standing(each.name, each.partitions, alone=False)]
        try:
            numbers = sorted(tp.partition for tp in partitions)
            misplaced = await count_misplaced(self._connection, self._probe, self._topic, numbers)
        except asyncpg.LockNotAvailableError:  # the partitions that wait for this lock already name its holder
            misplaced = Misplaced(0, 0)
        warnings = []
        if partitions:
            warnings = broken_promises(await describe_topic(self._settings.client_options(), self._topic))
        types = [] if schema.detail else sorted(await event_types_in_use(self._connection))
        warnings += differing_catalogues(types, self._catalogue)
        now, wrong = datetime.now(UTC), missing + found
        return Status(now, self._topic, generations, letters, wrong, misplaced, warnings, types, sinks)

    async def _sinks(self, partitions: Iterable[TopicPartition]) -> list[SinkStatus]:
        found = []
        for row in await self._connection.fetch(SINKS):
            name = row["name"]
            seen = await self._generation(Generation(name, "standby"), partitions)
            may_count = await self._connection.fetchval(MAY_COUNT, name)
            parked = await self._connection.fetchval(PARKED.format(sink=name), self._topic) if may_count else None
            found.append(SinkStatus(name, seen.progress, seen.partitions, parked))
        return found

    async def _generation(self, generation: Generation, partitions: Iterable[TopicPartition]) -> GenerationStatus:
        schema = await self._schema(generation)
        if schema is None:
            return GenerationStatus(generation.name, generation.state, None, [])
        found = await self._facts(generation, schema, partitions)
        if any(isinstance(judge(facts), Stalled) for facts in found.values()):
            await asyncio.sleep(SECOND_LOOK)
            before, found = found, await self._facts(generation, schema, partitions)
            found = {
                p: msgspec.structs.replace(facts, moved=p in before and facts.position != before[p].position)
                for p, facts in found.items()
            }
        rows = {row["partition"]: row["owner"] for row in await self._checkpoints(schema)}
        shown = [partition_status(p, facts, judge(facts), rows.get(p)) for p, facts in sorted(found.items())]
        return GenerationStatus(generation.name, generation.state, progress(found.values()), shown)

    async def _facts(
        self, generation: Generation, schema: str, partitions: Iterable[TopicPartition]
    ) -> dict[int, Facts]:
        """Collects the facts of each partition now.

        It reads positions before ends: otherwise a position that moved meanwhile could seem to be beyond the log's end.
        """
        rows = {row["partition"]: row for row in await self._checkpoints(schema)}
        marks = {
            tp.partition: found for tp, found in (await self._probe.log_offsets(partitions, LOOK_PATIENCE)).items()
        }
        group_id = group_of(self._settings, generation.name)
        group = await describe_group(self._settings.client_options(), group_id, self._topic)
        lock = await blocking_lock(self._connection, generation.name)
        ages = await self._ages({p: row["next_offset"] for p, row in rows.items()}, marks)
        now_ms = datetime.now(UTC).timestamp() * 1000
        return {
            partition: Facts(
                generation.name,
                generation.state,
                generation.state in PROJECTED,
                rows[partition]["next_offset"] if partition in rows else None,
                found.beginning,
                found.readable,
                found.end,
                group.for_partition(partition),
                rows[partition]["stopped_reason"] if partition in rows else None,
                generation.holds.get(partition),
                rows[partition]["advanced"] if partition in rows else None,
                ages.get(partition),
                partition in ages and ages[partition] is None,
                open_since=None if found.open_since is None else max(0.0, (now_ms - found.open_since) / 1000),
                patience=self._settings.watchdog_interval_ms / 1000,
                lock=lock,
            )
            for partition, found in marks.items()
        }

    async def _checkpoints(self, schema: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self._connection.fetch(CHECKPOINTS.format(schema=schema), self._topic)
        return found

    async def _schema(self, generation: Generation) -> str | None:
        """Returns the schema in which this role may read the generation's checkpoints, or None.

        A reader may read only those of the active generation, through the view.
        """
        if await self._connection.fetchval(READABLE, generation.name):
            return generation.name
        return READ if generation.state == "active" else None

    async def _ages(self, positions: Mapping[int, int], marks: Mapping[int, LogOffsets]) -> dict[int, float | None]:
        """Returns the age in seconds of each partition's next record; None if only transaction markers are left."""
        behind = {
            TopicPartition(self._topic, p): offset
            for p, offset in positions.items()
            if p in marks and marks[p].beginning <= offset < marks[p].readable
        }
        try:
            records = await self._probe.first_records(behind, LOOK_PATIENCE)
        except (TimeoutError, OffsetOutOfRangeError):
            return {}
        now_ms = datetime.now(UTC).timestamp() * 1000
        return {
            tp.partition: max(0.0, (now_ms - records[tp].timestamp) / 1000) if tp in records else None for tp in behind
        }


@asynccontextmanager
async def observing(settings: ProjectorSettings, catalogue: Catalogue | None = None) -> AsyncIterator[Observer]:
    """Connects to PostgreSQL, and to Kafka with the first status. Raises OSError or asyncpg.PostgresError.

    Args:
        settings: Names the servers.
        catalogue: What the projectors' event types are compared with; None: with each other only.
    """
    connection = await connect(settings.database_url.get_secret_value(), "footfall-status")
    await connection.execute(LOCK_TIMEOUT)
    probe = LogProbe(settings.client_options(), "footfall-status")
    try:
        yield Observer(settings, catalogue, connection, probe)
    finally:
        await probe.close()
        await connection.close()
