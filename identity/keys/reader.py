"""Follows the topic of the register in one process: reads it whole, then every change as it is written.

It needs no consumer group: each process reads everything. It is caught up once it has read to the end that Kafka
named; it asks for that end every second, which is also how it knows that Kafka still answers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from brokers.diagnosis import BrokersUnusableError, with_reason
from identity.keys.register import Register
from telemetry.background import running_beside
from telemetry.connections import ended_within
from telemetry.health import DependencyState, trouble_of
from telemetry.logs import get_logger
from telemetry.metrics import KEY_CHANGE_SECONDS

PARTITION = 0  # the only one of the topic: the changes of all keys have one order
ASK_EVERY = 1.0  # seconds between questions for the end of the topic
ANSWER_TIMEOUT = 3.0  # seconds
RETRY = 0.5  # seconds between connections
FETCH_MS = 250  # of one fetch; a change is there at once, and only silence takes so long
LATE = 5.0  # seconds without an answer of Kafka after which health says so
READ_AGAIN = 600.0  # seconds after which the topic is read anew, in case it was made anew
STOP_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is away
LOG_EVERY = 30.0  # seconds between log lines of an outage


class AnotherTopicError(Exception):
    """The topic ends before what was read of it."""


class RegisterReader:
    """What one process knows of the keys, and how fresh that is."""

    def __init__(self, client_options: Mapping[str, Any], topic: str, *, stale_after: float) -> None:
        """The reader; `running` makes it read.

        Args:
            client_options: How to reach Kafka.
            topic: Of the register.
            stale_after: Seconds without Kafka after which keys are not accepted any more.
        """
        self._options = dict(client_options)
        self._topic = TopicPartition(topic, PARTITION)
        self._stale_after = stale_after
        self._known = Register()
        self._fresh_at: float | None = None  # monotonic seconds when all of the topic was known; None: never yet
        self._trouble = "it was not read yet"
        self._log = get_logger("identity")
        self._logged_at = float("-inf")

    def register(self) -> Register | None:
        """What is known; None while it may not be relied on: never open because of an outage."""
        fresh_at = self._fresh_at  # asked for each request
        return self._known if fresh_at is not None and time.monotonic() - fresh_at <= self._stale_after else None

    def last_known(self, most: float) -> Register | None:
        """What was known when Kafka was heard last; None: it never was, or more than `most` seconds ago."""
        return self._known if self.age() <= most else None

    def origins(self) -> frozenset[bytes]:
        """Where public keys may send from; none while the register may not be relied on."""
        register = self.register()
        return register.origins if register is not None else frozenset()

    def age(self) -> float:
        """Seconds since all of the topic was known; infinite: it never was."""
        return float("inf") if self._fresh_at is None else time.monotonic() - self._fresh_at

    async def state(self) -> DependencyState:
        """For health."""
        age = self.age()
        if age <= LATE:
            return DependencyState(ok=True)
        if age == float("inf"):
            return DependencyState(ok=False, detail=f"the register of keys is not known: {self._trouble}")
        said = f"Kafka was last heard {age:.0f} s ago ({self._trouble}): keys revoked or made since are not known"
        if age <= self._stale_after:
            left = self._stale_after - age
            return DependencyState(ok=True, detail=f"{said}; in {left:.0f} s no key is accepted any more")
        return DependencyState(ok=False, detail=f"{said}, and no key is accepted")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reads while the body runs."""
        async with running_beside(self._follow, "register of keys"):
            yield

    async def _follow(self) -> None:
        while True:
            try:
                await self._connected()
            except Exception as error:  # noqa: BLE001 - whatever it is, this process must go on hearing of revocations
                self._note(error)
            await asyncio.sleep(RETRY)

    def _note(self, error: Exception) -> None:
        why = str(error) if isinstance(error, BrokersUnusableError) else trouble_of(error)
        self._trouble = f"topic {self._topic.topic}: {why}"
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY:
            self._logged_at = now
            self._log.warning("key_register_not_read", topic=self._topic.topic, error=why)

    async def _connected(self) -> None:
        """Reads over one connection until it fails, or until it is time to read all of it anew."""
        consumer = AIOKafkaConsumer(
            **self._options,
            client_id="footfall-identity",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=FETCH_MS,
            request_timeout_ms=round(ANSWER_TIMEOUT * 1000),
        )
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT * 2):
                await with_reason(self._options, consumer.start)
            consumer.assign([self._topic])
            await consumer.seek_to_beginning(self._topic)
            await self._read(consumer)
        finally:
            await ended_within(STOP_TIMEOUT, consumer.stop)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        clock = time.monotonic
        found, until, asked_at = Register(), clock() + READ_AGAIN, float("-inf")
        while clock() < until:
            written_at = await fold_next(consumer, self._topic, found)
            if self._known is found:  # what was there when we began is no news
                for at in written_at:
                    KEY_CHANGE_SECONDS.observe(max(time.time() - at, 0.0))
            if self._known is not found or clock() - asked_at >= ASK_EVERY:
                asked_at = clock()
                if await is_at_end(consumer, self._topic):
                    self._known, self._fresh_at = found, asked_at


async def fold_next(consumer: AIOKafkaConsumer, topic: TopicPartition, register: Register) -> list[float]:
    """Reads what is there, or waits a moment for something to be there. Returns when each was written, Unix time."""
    records = (await consumer.getmany(topic, timeout_ms=FETCH_MS)).get(topic, ())
    for record in records:
        register.apply((record.key or b"").decode("utf-8", "replace"), record.value)
    return [record.timestamp / 1000 for record in records]


async def is_at_end(consumer: AIOKafkaConsumer, topic: TopicPartition) -> bool:
    """Whether all of the topic was read. Raises AnotherTopicError, KafkaError, TimeoutError."""
    async with asyncio.timeout(ANSWER_TIMEOUT):
        end = (await consumer.end_offsets([topic]))[topic]
        position = await consumer.position(topic)
    if position > end:
        raise AnotherTopicError
    return bool(position == end)
