"""Outcomes are a closed set, and "certainly not recorded" is said only on a broker's word."""

import asyncio
from typing import Any, get_args

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownError,
)

from command_side.api.responses import PUBLISH_ANSWERS
from command_side.publishing.event_log import ACKNOWLEDGED, UNKNOWN, NotAcknowledged, Outcome
from command_side.publishing.kafka_producer import KafkaProducer, leaves_a_doubt
from command_side.publishing.pending import Group, members_of
from command_side.publishing.produce_round import COUNT_FAILURE
from contracts.record import EventRecord

RECORDS: Any = [EventRecord(b"k", b"v", [])]


def test_every_outcome_that_is_no_acknowledgement_has_its_answer_and_its_count() -> None:
    refusals = set(get_args(NotAcknowledged))
    assert refusals == PUBLISH_ANSWERS.keys() == COUNT_FAILURE.keys()
    assert set(get_args(Outcome)) == refusals | set(ACKNOWLEDGED)
    assert type(None) not in get_args(Outcome)
    assert 201 not in {answered.status for answered in PUBLISH_ANSWERS.values()}


async def test_what_a_group_has_not_been_told_reads_as_unknown() -> None:
    group = Group(2, asyncio.get_running_loop().create_future())
    first, _ = members_of(group, RECORDS * 2, 0.0)
    first.settle(UNKNOWN)
    assert not group.future.done()
    assert group.outcomes == [UNKNOWN, UNKNOWN]


def producer_that_meets(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> KafkaProducer:
    coming = iter(errors)

    async def submit(*_: Any) -> Any:
        raise next(coming)

    producer = KafkaProducer(lambda: None, "t", timeout=10.0, retries=3)
    monkeypatch.setattr(producer, "submit", submit)
    return producer


@pytest.mark.parametrize(
    ("errors", "certain"),
    [
        ([TopicAuthorizationFailedError()], True),
        ([MessageSizeTooLargeError()], True),
        ([UnknownError()], False),  # Kafka's own word for "something failed", and aiokafka's for codes it does not know
        ([LookupError()], False),
        ([RequestTimedOutError(), TopicAuthorizationFailedError()], False),
        ([KafkaConnectionError(), KafkaConnectionError(), MessageSizeTooLargeError()], False),
    ],
)
async def test_a_record_is_certainly_not_there_only_if_no_try_left_a_doubt(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], certain: bool
) -> None:
    producer = producer_that_meets(monkeypatch, *errors)
    with pytest.raises((KafkaError, LookupError)) as raised:
        await producer.retry(0, RECORDS, None)
    assert leaves_a_doubt(raised.value) is not certain
