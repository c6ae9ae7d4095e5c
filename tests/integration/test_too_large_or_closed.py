"""A log that is being rewritten takes nothing for a moment, and to its producer looks as if one event were too large.

413 says that a repeat is in vain. So it is said only if Kafka told that the topic takes other records.
"""

import random
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiokafka.errors import KafkaTimeoutError

from command_side.publishing import kafka_producer, topic_watch
from command_side.publishing.event_log import FAILED, TOO_LARGE, Acknowledged
from command_side.publishing.kafka_event_log import KafkaEventLog
from command_side.publishing.topic_watch import TopicWatch
from contracts.record import EventRecord
from contracts.topic_promises import ASKED, Accepts, Topic, topic_told
from tests.drivers.publishing import publish, started_log
from tests.patience import PATIENCE
from tests.servers import Servers

LARGE = EventRecord(b"user-1", random.Random(1).randbytes(2_000_000), [])  # compression must not help
SMALL = EventRecord(b"user-1", b"{}", [])


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(1)


@pytest_asyncio.fixture
async def log(real_servers: Servers, topic: str) -> AsyncIterator[KafkaEventLog]:
    log = await started_log(real_servers, topic, timeout=PATIENCE)
    yield log
    await log.close()


async def test_a_record_that_only_this_topic_refuses_is_too_large(log: KafkaEventLog) -> None:
    assert await publish(log, LARGE) == TOO_LARGE
    assert isinstance(await publish(log, SMALL), Acknowledged)


@pytest.mark.parametrize("told", [KafkaTimeoutError(), TimeoutError(), Topic("t", unknown="not allowed"), Topic("t")])
async def test_nobody_learns_that_a_repeat_is_in_vain_if_kafka_does_not_tell(
    log: KafkaEventLog, monkeypatch: pytest.MonkeyPatch, told: Topic | Exception
) -> None:
    async def asked(*_: object) -> Topic:
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(kafka_producer, "promises", asked)
    assert await publish(log, LARGE) == FAILED
    assert isinstance(await publish(log, SMALL), Acknowledged)


async def test_a_closed_topic_is_not_ready_until_kafka_tells_that_it_is_open(
    log: KafkaEventLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = topic_told(topic, {**dict.fromkeys(ASKED, ""), "max.message.bytes": "0"})
    unknown = [Topic(topic, unknown=why) for why in ("RequestTimedOutError", "KafkaConnectionError")]
    answers = iter([closed, *unknown, topic_told(topic, {**dict.fromkeys(ASKED, ""), "max.message.bytes": "2000000"})])

    async def asked(*_: object) -> Topic:
        return next(answers)

    monkeypatch.setattr(topic_watch, "promises", asked)
    watch = TopicWatch(lambda: log.client, topic)
    assert "privacy rewrite switch" in (await watch.state()).detail
    for silent in unknown:
        state = await watch.state()
        assert not state.ok, "silence opens nothing"
        assert "privacy rewrite switch" in state.detail
        assert str(silent.unknown) in state.detail
    assert "could not be checked" not in (await watch.state()).detail
    assert (await watch.state()).ok


def test_what_a_topic_accepts_is_one_of_three() -> None:
    sizes = {"": Accepts.NOT_TOLD, "0": Accepts.NOTHING, "1": Accepts.RECORDS}
    assert {size: Topic("t", {"max.message.bytes": size}).accepts for size in sizes} == sizes
