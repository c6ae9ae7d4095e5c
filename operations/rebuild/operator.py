"""One operator's connections: the database as its owner, and the log's offsets."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from aiokafka import TopicPartition

from operations.audit.deed import actor_name, audited, by_connection
from operations.refusal import RefusedError
from operations.settings import RebuildSettings
from projector.consuming.log_probe import COMMAND_TIMEOUT_MS, LogProbe
from projector.generations.history import HistoryCheck
from projector.liveness.stops import StopCause, cause_of
from read_model.connecting import operators_lock
from read_model.connecting.pool import connect
from read_model.generations.histories import topic_ids
from read_model.generations.register import BUILT, Generation, State, list_generations, positions

CLIENT = "footfall-rebuild"
STOPS = "SELECT stopped_reason FROM {generation}.checkpoints WHERE topic = $1 AND stopped_reason IS NOT NULL"


class Operator:
    """One operator at work: a connection as the database's owner, and access to the log's offsets."""

    def __init__(
        self, settings: RebuildSettings, connection: asyncpg.Connection, log: LogProbe, histories: HistoryCheck
    ) -> None:
        self.settings = settings
        self.histories = histories
        self.topic = settings.kafka_topic
        self.connection = connection
        self.log = log
        self.name = actor_name()

    async def generations(self) -> list[Generation]:
        """Returns every generation in the register."""
        return await list_generations(self.connection)

    async def find(self, *states: State) -> Generation | None:
        """Returns the generation in one of these states, or None. There is at most one."""
        return next((found for found in await self.generations() if found.state in states), None)

    async def active(self) -> Generation:
        """Returns the generation that queries see. Raises RefusedError if there is none."""
        found = await self.find("active")
        if found is None:
            raise RefusedError("No generation is active. Does DATABASE_URL name the right database?")
        return found

    async def under_construction(self) -> Generation:
        """Returns the generation that is being built. Raises RefusedError if there is none."""
        found = await self.find(*BUILT)
        if found is None:
            raise RefusedError("No generation is being built. Begin with: footfall rebuild start")
        return found

    async def ends(self) -> dict[int, int]:
        """Returns the offset after the last record of each partition. Raises RefusedError without the topic."""
        found = await self.log.ends(await self._partitions())
        return {tp.partition: offset for tp, offset in found.items()}

    async def beginnings(self) -> dict[int, int]:
        """Returns the offset of the oldest record of each partition. Raises RefusedError without the topic."""
        found = await self.log.beginnings(await self._partitions())
        return {tp.partition: offset for tp, offset in found.items()}

    async def _partitions(self) -> list[TopicPartition]:
        partitions = await self.log.partitions_of(self.topic)
        if not partitions:
            raise RefusedError(f"Kafka has no topic {self.topic}. Does KAFKA_TOPIC name the right one?")
        return partitions

    async def lag(self, generation: str) -> int:
        """Returns how many events the generation is behind the end of the log."""
        done = await positions(self.connection, generation, self.topic)
        return sum(max(0, end - done.get(partition, 0)) for partition, end in (await self.ends()).items())

    async def has_other_history(self, generation: str) -> bool:
        """Whether the topic is known to be another one than the generation's checkpoints count in."""
        mine, topic = await topic_ids(self.connection, generation, self.topic), await self.histories.metadata()
        if mine and topic.topic_id is not None and topic.topic_id not in mine:
            return True
        rows = await self.connection.fetch(STOPS.format(generation=generation), self.topic)
        other = (StopCause.ANOTHER_HISTORY, StopCause.HISTORY_CUT)
        return any(cause_of(row["stopped_reason"]) in other for row in rows)

    async def same_history(self, one: str, other: str) -> bool:
        """Whether the checkpoints of two generations count in the same topic. True if a topic id is not known."""
        mine, theirs = [await topic_ids(self.connection, name, self.topic) for name in (one, other)]
        return not mine or not theirs or mine == theirs

    async def connect(self) -> asyncpg.Connection:
        """Opens one more connection as the same role."""
        return await _connect(self.settings)


Given = ParamSpec("Given")
Found = TypeVar("Found")
Work = Callable[Concatenate[Operator, Given], Coroutine[Any, Any, Found]]


def as_deed(
    action: str, told: Callable[[Found], str], target: Callable[Given, str] | None = None
) -> Callable[[Work[Given, Found]], Work[Given, Found]]:
    """Decorates an operator's work: the audit log has it before it begins, and how it ended (docs/audit.md).

    Args:
        action: The command.
        told: Says what it was done to, from the result.
        target: Says the same from the arguments, before it is done, where they tell it.
    """

    def decorated(work: Work[Given, Found]) -> Work[Given, Found]:
        @functools.wraps(work)
        async def audited_work(operator: Operator, /, *args: Given.args, **kwargs: Given.kwargs) -> Found:
            write, what = by_connection(operator.connection), target(*args, **kwargs) if target else ""
            async with audited(write, action, actor=operator.name, target=what, refusals=(RefusedError,)) as deed:
                found = await work(operator, *args, **kwargs)
                deed.target = told(found) or what
                return found

        return audited_work

    return decorated


def its_name(found: Generation) -> str:
    """Names a generation, for `as_deed`."""
    return found.name


@asynccontextmanager
async def operating(settings: RebuildSettings, *, exclusive: bool = True) -> AsyncIterator[Operator]:
    """Yields an operator and closes its connections afterwards.

    Args:
        settings: Names the database and the topic.
        exclusive: Holds the operators' lock, so that nobody else changes generations meanwhile.

    Raises:
        RefusedError: Another operator holds the lock.
    """
    log = LogProbe(settings.client_options(), CLIENT, COMMAND_TIMEOUT_MS)
    histories = HistoryCheck(settings.client_options(), settings.kafka_topic, CLIENT, COMMAND_TIMEOUT_MS)
    async with AsyncExitStack() as ending:
        connection = await _connect(settings)
        ending.push_async_callback(connection.close)
        ending.push_async_callback(log.close)
        ending.push_async_callback(histories.close)
        if exclusive:
            await ending.enter_async_context(_operators_lock(settings))
        yield Operator(settings, connection, log, histories)


@asynccontextmanager
async def _operators_lock(settings: RebuildSettings) -> AsyncIterator[None]:
    guard = await _connect(settings)
    try:
        async with operators_lock.exclusive(guard):
            yield
    except operators_lock.HeldError as error:
        raise RefusedError(str(error)) from None
    finally:
        await guard.close()


async def _connect(settings: RebuildSettings) -> asyncpg.Connection:
    return await connect(settings.database_url.get_secret_value(), CLIENT)
