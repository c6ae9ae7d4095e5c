"""The command side's log on a real Kafka, and one record published by a coroutine, where production is called back."""

import asyncio

from command_side.app import producer_of
from command_side.publishing.event_log import NOT_TAKEN, EventLog, Outcome
from command_side.publishing.kafka_event_log import KafkaEventLog
from command_side.settings import CommandSettings
from contracts.record import EventRecord
from tests.servers import Servers


async def started_log(servers: Servers, topic: str, timeout: float = 20.0) -> KafkaEventLog:
    """A log that has connected. `timeout`: seconds that a publisher waits."""
    settings = CommandSettings(kafka_bootstrap_servers=servers.kafka, kafka_topic=topic)
    log = KafkaEventLog(lambda: producer_of(settings), topic, timeout=timeout, retries=3, max_pending=10_000)
    await log.start()
    return log


async def publish(log: EventLog, record: EventRecord) -> Outcome:
    """Returns what became of the record. Whoever is cancelled here withdraws it."""
    known: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def on_result(outcome: Outcome) -> None:
        if not known.done():
            known.set_result(outcome)

    pending = log.publish_nowait(record, on_result)
    if isinstance(pending, NOT_TAKEN):
        return pending
    try:
        return await known
    finally:
        pending.withdraw()
