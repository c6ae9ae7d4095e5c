"""The log in Kafka, by group commit.

aiokafka keeps one produce request in flight for each broker, and a future for each record is what makes a producer
slow. So everything that arrives while one produce round is in flight goes out in the next round, in one batch for each
partition. No linger is needed: an idle log sends at once, a busy one fills its batches by itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

from command_side.publishing.circuit_breaker import Circuit, UnansweredError
from command_side.publishing.event_log import AWAY, BUSY, FAILED, UNKNOWN, NotTaken, Outcome
from command_side.publishing.kafka_producer import CLOSE_TIMEOUT, KafkaProducer
from command_side.publishing.pending import Group, Pending, PendingRecord, members_of
from command_side.publishing.produce_round import COUNT_FAILURE, ProduceRound, fail
from command_side.tracing import record_round, traced_records
from contracts.record import EventRecord
from telemetry.logs import get_logger
from telemetry.metrics import PUBLISH_SECONDS

BUSY_ROUND = 8  # records; after a round of more, the next waits `BUSY_PAUSE` to become as large
BUSY_PAUSE = 0.0005  # seconds
TICK = 0.05  # seconds between looks at deadlines and at the round in flight
MAX_ROUND_RECORDS = 5_000  # keeps one round's answer within reach of its deadline

# Silence of Kafka within a round for this long is a failure of the circuit, and for each time as long again another.
PATIENCE = 1.0  # seconds
FAILURES = 3
PROBE_INTERVAL = 1.0  # seconds; a probe may take as long, too
STUCK_PROBES = 8  # answered while the round in flight stays unanswered: the producer hangs and is replaced


class KafkaEventLog:
    """Publishes records through one idempotent producer. Start it with `start`, end it with `close`."""

    def __init__(
        self,
        make_producer: Callable[[], AIOKafkaProducer],
        topic: str,
        *,
        timeout: float,
        retries: int,
        max_pending: int,
    ) -> None:
        self._producer = KafkaProducer(make_producer, topic, timeout=timeout, retries=retries)
        self._topic = topic
        self._timeout = timeout  # seconds
        self._max_pending = max_pending
        self._pending: deque[Pending] = deque()
        self._unsettled: deque[Pending] = deque()  # in the order of their deadlines
        self._arrived = asyncio.Event()
        self._closing = False
        self._in_flight: list[Pending] = []  # the round that Kafka has not answered
        self._silent_since = 0.0  # loop time of the latest answer to the round in flight, or of its beginning
        self._round_failures = 0  # how often the silence since then has counted as a failure
        self._circuit = Circuit("kafka", failures=FAILURES, retry=PROBE_INTERVAL)
        self._stuck_probes = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._log = get_logger("command_side")

    async def start(self) -> None:
        """Connects. Raises KafkaError when no broker answers or the topic does not exist."""
        self._loop = asyncio.get_running_loop()
        self._round = ProduceRound(self._producer, await self._producer.start())
        self._rounds = asyncio.create_task(self._run_rounds(), name="produce-rounds")
        self._tasks = [asyncio.create_task(self._watch(), name="publish-deadlines")]

    async def close(self) -> None:
        """Sends what is pending, within `CLOSE_TIMEOUT`, and disconnects."""
        self._closing = True
        self._arrived.set()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._rounds
                await self._producer.stop()
        except TimeoutError:
            self._log.warning("producer_close_timed_out", pending=len(self._pending))
        finally:
            for task in self._tasks:
                task.cancel()
            for pending in self._unsettled:
                self._give_up(pending)

    async def connected(self) -> bool:
        """Whether a broker answers a metadata request now."""
        await self._producer.ask()
        return True

    @property
    def client(self) -> AIOKafkaClient:
        """The connection to Kafka that it has now."""
        return self._producer.current.client

    def times_refused(self) -> bool:
        """See `ProduceRound.times_refused`."""
        return self._round.times_refused()

    @property
    def circuit_state(self) -> str:
        """`closed`: commands are taken; `open` or `half-open`: they are refused until Kafka answers a probe."""
        return self._circuit.state

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingRecord | NotTaken:
        """See `EventLog.publish_nowait`. `on_result` is called within the timeout."""
        refusal = self._refused(1)
        if refusal is not None:
            return refusal
        pending = PendingRecord(record, on_result, self._loop.time() + self._timeout)
        self._pending.append(pending)
        self._unsettled.append(pending)
        self._arrived.set()
        return pending

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog.publish_all`. Answered within the timeout."""
        if not records:
            return []
        refusal = self._refused(len(records))
        if refusal is not None:
            return refusal
        group = Group(len(records), self._loop.create_future())
        members = members_of(group, records, self._loop.time() + self._timeout)
        self._pending.extend(members)
        self._unsettled.extend(members)
        self._arrived.set()
        return await group.future

    async def partition_count(self) -> int:
        """See `EventLog.partition_count`."""
        return await self._producer.partition_count()

    def _refused(self, records: int) -> NotTaken | None:
        refusal = self._refusal(records)
        if refusal is not None:
            COUNT_FAILURE[type(refusal)](records)
        return refusal

    def _refusal(self, records: int) -> NotTaken | None:
        if not self._circuit.closed:
            return AWAY
        if self._pending and len(self._pending) + records > self._max_pending:
            return BUSY
        return None

    async def _watch(self) -> None:
        """Answers, for ever, the publishers whose time is over, and tells the circuit of rounds without an answer.

        One timer for all: on Python 3.11 each `asyncio.timeout` costs three system calls (getpid, docs/performance.md).
        """
        while True:
            await asyncio.sleep(TICK)
            now, unsettled = self._loop.time(), self._unsettled
            while unsettled and (unsettled[0].settled() or unsettled[0].deadline <= now):
                self._give_up(unsettled.popleft())
            if self._producer.heard_at > self._silent_since:
                await self._hear()
            if self._in_flight and now - self._silent_since > PATIENCE * (self._round_failures + 1):
                self._round_failures += 1
                await self._circuit.failed()
                if not self._circuit.closed:
                    await self._sit_out()

    async def _hear(self) -> None:
        """Kafka answered within the round: it refuses, and takes smaller batches, as long as it likes; it is there."""
        self._silent_since, self._round_failures = self._producer.heard_at, 0
        await self._circuit.succeeded()

    async def _sit_out(self) -> None:
        """The circuit is open: what was not sent is answered at once; probes until Kafka answers."""
        while self._pending:
            fail([self._pending.popleft()], AWAY)
        if not any(task.get_name() == "circuit-probe" and not task.done() for task in self._tasks):
            self._tasks[1:] = [asyncio.create_task(self._probe_until_closed(), name="circuit-probe")]

    async def _probe_until_closed(self) -> None:
        self._stuck_probes = 0
        while not self._circuit.closed:
            await asyncio.sleep(PROBE_INTERVAL * 1.05)  # the circuit takes no probe before its time
            await self._circuit.attempt(self._probe)

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(PROBE_INTERVAL):
                await self._producer.ask()
        except Exception as error:
            raise UnansweredError from error
        if not self._in_flight:
            return
        self._stuck_probes += 1
        if self._stuck_probes >= STUCK_PROBES:
            await self._start_afresh()
        raise UnansweredError

    async def _start_afresh(self) -> None:
        """Kafka answers, only the round in flight never ends: gives it up and goes on with a new producer."""
        self._stuck_probes = 0
        self._rounds.cancel()
        fail(self._in_flight, UNKNOWN)
        await self._producer.renew(self._producer.current)
        self._in_flight = []
        self._rounds = asyncio.create_task(self._run_rounds(), name="produce-rounds")
        self._arrived.set()

    def _give_up(self, pending: Pending) -> None:
        """Its time is over. What was not sent never left this process, and now it never will."""
        fail([pending], UNKNOWN if pending.sent else FAILED)

    async def _run_rounds(self) -> None:
        while self._pending or not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                taken = self._take_round()
                await self._run_round(taken)
                if len(taken) > BUSY_ROUND:  # a batch costs as much as many records: fewer, larger rounds
                    await asyncio.sleep(BUSY_PAUSE)

    def _take_round(self) -> list[Pending]:
        """The next records whose publishers still wait."""
        count = min(len(self._pending), MAX_ROUND_RECORDS)
        taken = [self._pending.popleft() for _ in range(count)]
        return [pending for pending in taken if not pending.settled()]

    async def _run_round(self, records: list[Pending]) -> None:
        began = self._silent_since = self._loop.time()
        self._round_failures, self._in_flight = 0, records
        traced, started = traced_records(records), time.time_ns()
        await self._round.run(records)
        self._in_flight = []
        if traced:
            record_round(traced, started, self._topic, len(records))
        PUBLISH_SECONDS.observe(self._loop.time() - began)
        if self._circuit.suspicious:
            await self._circuit.succeeded()
