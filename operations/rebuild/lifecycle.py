"""What an operator does with generations: build one, hold it, give it up, drop it (docs/rebuild.md)."""

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from aiokafka import TopicPartition

from operations.rebuild.origin import columns, lacking
from operations.settings import RebuildSettings
from projector.consuming.log_probe import LogProbe
from projector.generations.history import HistoryCheck
from projector.liveness.stops import StopCause, cause_of
from read_model.connecting import operators_lock
from read_model.connecting.pool import connect
from read_model.generations.histories import topic_ids
from read_model.generations.register import (
    BUILT,
    Connection,
    Generation,
    State,
    list_generations,
    note,
    positions,
    projector_name,
    set_state,
)
from read_model.generations.schema import GenerationInUseError, NotCopiedError, create_like, drop, tables_of

LEAVE_WITHIN = 15.0  # seconds for the projectors to leave a generation that is to be dropped
POLL = 0.1  # seconds

NEXT_NAME = "SELECT 'read_g' || nextval('ops.generation_number')"
REGISTER = "INSERT INTO ops.generations (name, state, max_rate, created_by) VALUES ($1, 'building', $2, $3)"
FIRST_CHECKPOINTS = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner, topic_id)
SELECT $1, partition, next_offset, 0, '', $4 FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
"""
STOPS = "SELECT stopped_reason FROM {generation}.checkpoints WHERE topic = $1 AND stopped_reason IS NOT NULL"
# What operators gave up stays given up: the build passes it over instead of parking it, and all behind it, again.
DISCARDED = "INSERT INTO {new}.dead_letters SELECT * FROM {old}.dead_letters WHERE state = 'discarded'"
SET_RATE = "UPDATE ops.generations SET max_rate = $2 WHERE name = $1"
FORGET = "DELETE FROM ops.generations WHERE name = $1"
SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1
"""


class RefusedError(Exception):
    """The generations do not allow what was asked; the text says why, and what to do."""


class Operator:
    """One operator at work: a connection of the owner's role, and a look at the log."""

    def __init__(
        self, settings: RebuildSettings, connection: asyncpg.Connection, log: LogProbe, histories: HistoryCheck
    ) -> None:
        self.settings = settings
        self.histories = histories
        self.topic = settings.kafka_topic
        self.connection = connection
        self.log = log
        self.name = f"{getpass.getuser()}@{socket.gethostname()}"

    async def generations(self) -> list[Generation]:
        """Every generation."""
        return await list_generations(self.connection)

    async def find(self, *states: State) -> Generation | None:
        """The generation in one of these states, of which there is at most one."""
        return next((found for found in await self.generations() if found.state in states), None)

    async def active(self) -> Generation:
        """The generation that queries see."""
        found = await self.find("active")
        if found is None:
            raise RefusedError("No generation is active. Does DATABASE_URL name the right database?")
        return found

    async def under_construction(self) -> Generation:
        """The generation that is being built. Raises RefusedError when there is none."""
        found = await self.find(*BUILT)
        if found is None:
            raise RefusedError("No generation is being built. Begin with: footfall rebuild start")
        return found

    async def ends(self) -> dict[int, int]:
        """The offset after the last record of each partition. Raises RefusedError when the topic is not there."""
        found = await self.log.ends(await self._partitions())
        return {tp.partition: offset for tp, offset in found.items()}

    async def beginnings(self) -> dict[int, int]:
        """The offset of the oldest record of each partition."""
        found = await self.log.beginnings(await self._partitions())
        return {tp.partition: offset for tp, offset in found.items()}

    async def _partitions(self) -> list[TopicPartition]:
        partitions = await self.log.partitions_of(self.topic)
        if not partitions:
            raise RefusedError(f"Kafka has no topic {self.topic}. Does KAFKA_TOPIC name the right one?")
        return partitions

    async def lag(self, generation: str) -> int:
        """Events between the generation and the end of the log."""
        done = await positions(self.connection, generation, self.topic)
        return sum(max(0, end - done.get(partition, 0)) for partition, end in (await self.ends()).items())

    async def not_its_history(self, generation: str) -> bool:
        """Whether the topic is known to be another than the one that the generation counts in."""
        mine, topic = await topic_ids(self.connection, generation, self.topic), await self.histories.metadata()
        if mine and topic.topic_id is not None and topic.topic_id not in mine:
            return True
        rows = await self.connection.fetch(STOPS.format(generation=generation), self.topic)
        other = (StopCause.ANOTHER_HISTORY, StopCause.HISTORY_CUT)
        return any(cause_of(row["stopped_reason"]) in other for row in rows)

    async def same_history(self, one: str, other: str) -> bool:
        """Whether two generations count in the same topic, as far as that is known."""
        mine, theirs = [await topic_ids(self.connection, name, self.topic) for name in (one, other)]
        return not mine or not theirs or mine == theirs

    async def connect(self) -> asyncpg.Connection:
        """One more connection of the same role."""
        return await _connect(self.settings)


@asynccontextmanager
async def operating(settings: RebuildSettings, *, alone: bool = True) -> AsyncIterator[Operator]:
    """An operator. `alone`: no other changes generations meanwhile; raises RefusedError while one does."""
    log = LogProbe(settings.client_options(), "footfall-rebuild")
    histories = HistoryCheck(settings.client_options(), settings.kafka_topic, "footfall-rebuild")
    async with AsyncExitStack() as ending:
        connection = await _connect(settings)
        ending.push_async_callback(connection.close)
        ending.push_async_callback(log.close)
        ending.push_async_callback(histories.close)
        if alone:
            await ending.enter_async_context(_nobody_else(settings))
        yield Operator(settings, connection, log, histories)


@asynccontextmanager
async def _nobody_else(settings: RebuildSettings) -> AsyncIterator[None]:
    guard = await _connect(settings)
    try:
        async with operators_lock.alone(guard):
            yield
    except operators_lock.HeldError as error:
        raise RefusedError(str(error)) from None
    finally:
        await guard.close()


async def _connect(settings: RebuildSettings) -> asyncpg.Connection:
    return await connect(settings.database_url.get_secret_value(), "footfall-rebuild")


async def start(
    operator: Operator, max_rate: int | None = None, *, forget_discards: bool = False, accept_missing: bool = False
) -> Generation:
    """Makes an empty generation like the active one; running projectors begin to fill it from offset 0.

    What operators discarded is passed over again, unless `forget_discards`: then it is tried as any other record.
    Raises RefusedError while another is built or kept, and when the topic does not reach back to offset 0, unless
    `accept_missing`: then the build begins where the topic does, and the journal has what it lacks.
    """
    if await operator.find("dropping"):
        await _finish_dropping(operator)
    for state, remedy in (("building", "cancel"), ("paused", "cancel"), ("standby", "drop")):
        found = await operator.find(state)  # type: ignore[arg-type]  # the states are spelt out above
        if found is not None:
            raise RefusedError(f"{found.name} is {state}. To be rid of it: footfall rebuild {remedy}")
    active = await operator.active()
    beginnings = await operator.beginnings()
    missing = {partition: first for partition, first in beginnings.items() if first > 0}
    if missing and not accept_missing:
        raise RefusedError(lacking(operator.topic, missing))
    another = await operator.not_its_history(active.name)
    ends = await _reaches(operator, active, another=another)
    connection = operator.connection
    try:
        async with connection.transaction():
            name: str = await connection.fetchval(NEXT_NAME)
            tables = await create_like(connection, active.name, name)
            topic_id = (await operator.histories.metadata()).topic_id
            places = columns(ends, beginnings)
            await connection.execute(FIRST_CHECKPOINTS.format(generation=name), operator.topic, *places, topic_id)
            if not forget_discards and not another:
                await connection.execute(DISCARDED.format(old=active.name, new=name))
            await connection.execute(REGISTER, name, max_rate, operator.name)
            detail = {"generation": name, "like": active.name, "tables": len(tables), "max_rate": max_rate}
            detail |= {"forget_discards": forget_discards, "missing": missing}
            await note(connection, operator.name, "rebuild start", detail | {"events": sum(ends.values())})
    except NotCopiedError as error:
        raise RefusedError(f"{error}. A rebuild cannot copy that yet.") from error
    return await operator.under_construction()


async def _reaches(operator: Operator, active: Generation, *, another: bool) -> dict[int, int]:
    """The ends of the log, if it reaches to where the active generation stands.

    `another`: it is another history than the active generation's, so where that stands says nothing.
    """
    stands = await positions(operator.connection, active.name, operator.topic)  # first: both move on while we look
    ends = await operator.ends()
    for partition, offset in stands.items():
        if ends.get(partition, 0) < offset and not another:
            raise RefusedError(
                f"Partition {partition} of {operator.topic} ends at {ends.get(partition, 0)}, but {active.name} stands "
                f"at {offset}: this is not the topic that {active.name} was built from."
            )
    return ends


async def pause(operator: Operator) -> Generation:
    """Lets the projectors leave the build; it keeps what it has."""
    building = await operator.under_construction()
    if building.state == "paused":
        raise RefusedError(f"{building.name} is paused already.")
    await _change(operator, building.name, "paused", "rebuild pause")
    return building


async def resume(operator: Operator, max_rate: int | None = None) -> Generation:
    """Goes on with the build, from its checkpoints. `max_rate`: a new cap, 0 for none, None for the same as before."""
    building = await operator.under_construction()
    if max_rate is not None:
        await operator.connection.execute(SET_RATE, building.name, max_rate or None)
    await _change(operator, building.name, "building", "rebuild resume")
    return building


async def _change(operator: Operator, name: str, state: State, action: str) -> None:
    async with operator.connection.transaction():
        await set_state(operator.connection, name, state)
        await note(operator.connection, operator.name, action, {"generation": name})


async def cancel(operator: Operator) -> Generation:
    """Gives the build up and drops it."""
    return await _drop_when_left(operator, await operator.find(*BUILT, "dropping"), "rebuild cancel", "being built")


async def drop_standby(operator: Operator) -> Generation:
    """Drops the generation kept to roll back to."""
    return await _drop_when_left(operator, await operator.find("standby", "dropping"), "rebuild drop", "kept")


async def _drop_when_left(operator: Operator, found: Generation | None, action: str, what: str) -> Generation:
    if found is None:
        raise RefusedError(f"No generation is {what}, so there is nothing to drop.")
    await _change(operator, found.name, "dropping", action)
    await _finish_dropping(operator)
    return found


async def _finish_dropping(operator: Operator) -> None:
    """Also what an operator who was interrupted left undone."""
    connection = operator.connection
    found = await operator.find("dropping")
    if found is None:
        return
    await _until_left(connection, found.name)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await drop(connection, found.name)
            await connection.execute(FORGET, found.name)
            await note(connection, operator.name, "rebuild dropped", {"generation": found.name})
    except asyncpg.LockNotAvailableError as error:
        raise RefusedError(f"Somebody still uses {found.name}. Try again when that has ended.") from error
    except GenerationInUseError as error:
        raise RefusedError(f"{error}. Drop or change that first, then try again.") from error


async def _until_left(connection: Connection, name: str) -> None:
    """Until no projector works in it; one that is frozen is not waited for, and finds nothing when it wakes."""
    waited = 0.0
    while waited < LEAVE_WITHIN and await connection.fetchval(SESSIONS, projector_name(name)):
        await asyncio.sleep(POLL)
        waited += POLL


async def analyze(operator: Operator, name: str) -> None:
    """Lets PostgreSQL know the tables before queries meet them."""
    for table in await tables_of(operator.connection, name):
        await operator.connection.execute(f"ANALYZE {name}.{table}")
