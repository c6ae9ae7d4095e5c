"""How things stand: for each generation where its partitions are and who has them, and what is parked.

It reads PostgreSQL with whatever role DATABASE_URL names, reader or writer, and looks at the log from outside any
group, so that looking changes nothing.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import asyncpg
import msgspec
from aiokafka import TopicPartition

from footfall.consumer_groups import Group, describe_group
from footfall.misplaced import Misplaced, look
from projector.generation_loop import group_of
from projector.log_probe import LogProbe
from projector.settings import ProjectorSettings
from read_model.generations import PROJECTED, Generation, list_generations
from read_model.names import READ
from read_model.pool import connect
from read_model.schema_version import needed, schema_state

LOOK_PATIENCE = 3.0  # seconds for the first records beyond the checkpoints of one generation

READABLE = """
SELECT coalesce(bool_or(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), false)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'checkpoints'
"""
CHECKPOINTS = "SELECT partition, next_offset, owner, stopped_reason FROM {schema}.checkpoints WHERE topic = $1"
LETTERS = """
SELECT cause, state, count(*) AS count FROM read.dead_letters WHERE kafka_topic = $1
GROUP BY cause, state ORDER BY cause, state
"""

State = Literal["running", "idle", "held", "paused", "stopped", "unowned", "unknown"]


class PartitionStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One partition in one generation. `lag` in events, `lag_seconds`: the age of the next record to process.

    Both are None when they are not known.
    """

    partition: int
    state: State
    owner: str | None
    checkpoint: int | None
    end_offset: int
    lag: int | None
    lag_seconds: float | None
    reason: str | None = None


class GenerationStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One generation. `progress`: what share of the log it has processed, 0 to 1."""

    name: str
    state: str
    progress: float | None
    partitions: list[PartitionStatus]


class LetterCount(msgspec.Struct, frozen=True):
    """How many dead letters of the active generation have this cause and this state."""

    cause: str
    state: str
    count: int


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """All of it. `problems` says in sentences what is not well; empty: all is."""

    at: datetime
    topic: str
    generations: list[GenerationStatus]
    dead_letters: list[LetterCount]
    problems: list[str]
    misplaced: Misplaced


class Checkpoint(msgspec.Struct, frozen=True):
    """A row of `checkpoints`."""

    next_offset: int
    owner: str
    stopped_reason: str | None


class LogEnds(msgspec.Struct, frozen=True):
    """Where the topic begins and ends, for each partition."""

    beginnings: dict[int, int]
    ends: dict[int, int]


class Observer:
    """Takes one status after the other over the same connections."""

    def __init__(self, settings: ProjectorSettings, connection: asyncpg.Connection, probe: LogProbe) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._connection = connection
        self._probe = probe

    async def status(self, max_lag: int | None = None) -> Status:
        """How things stand now. Raises OSError, KafkaError or asyncpg.PostgresError."""
        partitions = await self._probe.partitions_of(self._topic)
        log = LogEnds(
            {tp.partition: offset for tp, offset in (await self._probe.beginnings(partitions)).items()},
            {tp.partition: offset for tp, offset in (await self._probe.ends(partitions)).items()},
        )
        generations = [await self._generation(found, log) for found in await list_generations(self._connection)]
        letters = [
            LetterCount(row["cause"], row["state"], row["count"])
            for row in await self._connection.fetch(LETTERS, self._topic)
        ]
        missing = [] if partitions else [f"There is no topic {self._topic}."]
        schema = await schema_state(self._connection, needed())
        missing += [f"{schema.detail[0].upper()}{schema.detail[1:]}."] if schema.detail else []
        found = [sentence for each in generations for sentence in problems(each, max_lag)]
        misplaced = await look(self._connection, sorted(log.ends))
        return Status(datetime.now(UTC), self._topic, generations, letters, missing + found, misplaced)

    async def _generation(self, generation: Generation, log: LogEnds) -> GenerationStatus:
        schema = await self._schema(generation)
        if schema is None:
            return GenerationStatus(generation.name, generation.state, None, [])
        rows = await self._connection.fetch(CHECKPOINTS.format(schema=schema), self._topic)
        checkpoints = {
            row["partition"]: Checkpoint(row["next_offset"], row["owner"], row["stopped_reason"]) for row in rows
        }
        group_id = group_of(self._settings, generation.name)
        group = await describe_group(self._settings.client_options(), group_id, self._topic)
        ages = await self._ages({p: found.next_offset for p, found in checkpoints.items()}, log)
        partitions = [partition_status(generation, p, checkpoints.get(p), log, group, ages) for p in sorted(log.ends)]
        return GenerationStatus(generation.name, generation.state, _progress(partitions, log), partitions)

    async def _schema(self, generation: Generation) -> str | None:
        """Where this role may read the checkpoints: a reader only those of the active generation, by the view."""
        if await self._connection.fetchval(READABLE, generation.name):
            return generation.name
        return READ if generation.state == "active" else None

    async def _ages(self, positions: Mapping[int, int], log: LogEnds) -> dict[int, float | None]:
        """Seconds since the next record of each partition was made; None where only markers are left."""
        behind = {
            TopicPartition(self._topic, p): offset
            for p, offset in positions.items()
            if p in log.ends and log.beginnings[p] <= offset < log.ends[p]
        }
        try:
            records = await self._probe.first_records(behind, LOOK_PATIENCE)
        except TimeoutError:
            return {}
        now_ms = datetime.now(UTC).timestamp() * 1000
        return {
            tp.partition: max(0.0, (now_ms - records[tp].timestamp) / 1000) if tp in records else None for tp in behind
        }


def partition_status(
    generation: Generation,
    partition: int,
    checkpoint: Checkpoint | None,
    log: LogEnds,
    group: Group,
    ages: Mapping[int, float | None],
) -> PartitionStatus:
    """What the facts mean for one partition. Pure. `ages`: see `Observer`."""
    begin, end = log.beginnings[partition], log.ends[partition]
    position = begin if checkpoint is None else checkpoint.next_offset
    lag = max(0, end - position)
    age = ages.get(partition)
    if partition in ages and age is None:
        lag = 0  # nothing but markers of transactions, which nobody reads
    if lag == 0:
        age = 0.0
    owner = checkpoint.owner if checkpoint is not None else None
    state, reason = _state(generation, partition, checkpoint, group, lag)
    if reason is None and not begin <= position <= end:
        reason = f"the log holds {begin} to {end}"
    return PartitionStatus(
        partition,
        state,
        owner or None,
        None if checkpoint is None else position,
        end,
        lag,
        None if age is None else round(age, 3),
        reason,
    )


def _state(
    generation: Generation, partition: int, checkpoint: Checkpoint | None, group: Group, lag: int
) -> tuple[State, str | None]:
    if checkpoint is not None and checkpoint.stopped_reason is not None:
        return "stopped", checkpoint.stopped_reason
    if generation.state not in PROJECTED:
        return "paused", f"the generation is {generation.state}"
    if group.settled and partition not in group.members:
        return "unowned", "no projector is assigned to it"
    limit = generation.holds.get(partition)
    if limit is not None and checkpoint is not None and checkpoint.next_offset >= limit:
        return "held", f"an operator holds it at {limit}"
    if checkpoint is None:
        return "unknown", "nobody has claimed it yet"
    return ("running" if lag else "idle"), None


def _progress(partitions: list[PartitionStatus], log: LogEnds) -> float | None:
    whole = sum(log.ends[found.partition] - log.beginnings[found.partition] for found in partitions)
    left = sum(found.lag or 0 for found in partitions)
    return None if not partitions else 1.0 if whole == 0 else max(0.0, min(1.0, 1 - left / whole))


def problems(generation: GenerationStatus, max_lag: int | None) -> list[str]:
    """What is not well: what stopped, what of the active generation nobody projects, and what lags too far."""
    active = generation.state == "active"
    found = []
    for each in generation.partitions:
        where = f"{generation.name}, partition {each.partition}"
        if each.state == "stopped":
            found.append(f"{where} has stopped: {each.reason}")
        elif each.state == "unowned" and active:
            found.append(f"{where} is assigned to no projector.")
        if active and max_lag is not None and each.lag is not None and each.lag > max_lag:
            found.append(f"{where} lags by {each.lag:,} events, more than {max_lag:,}.")
    return found


@asynccontextmanager
async def observing(settings: ProjectorSettings) -> AsyncIterator[Observer]:
    """Connects to PostgreSQL; to Kafka at the first look. Raises OSError or asyncpg.PostgresError."""
    connection = await connect(settings.database_url.get_secret_value(), "footfall-status")
    probe = LogProbe(settings.client_options(), "footfall-status")
    try:
        yield Observer(settings, connection, probe)
    finally:
        await probe.close()
        await connection.close()
