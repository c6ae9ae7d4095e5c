"""Which sentence a topic earns: a table, without a server."""

import pytest

from contracts.topic_promises import LARGEST_RECORD, Topic, Wanted, broken_promises, topic_told

SOUND = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.insync.replicas": "1",
}
WANTED = Wanted(partitions=6, replication=1)


def test_a_topic_as_we_make_it_breaks_nothing() -> None:
    assert broken_promises(topic_told("t", SOUND, 6, 1), WANTED) == []


@pytest.mark.parametrize(
    ("config", "value", "words"),
    [
        ("retention.ms", "604800000", "retention.ms=-1"),
        ("retention.bytes", "1073741824", "retention.bytes=-1"),
        ("cleanup.policy", "compact", "cleanup.policy=delete"),
        ("cleanup.policy", "compact,delete", "thins out"),
        ("max.message.bytes", str(LARGEST_RECORD - 1), "max.message.bytes=1048588"),
        ("message.timestamp.type", "LogAppendTime", "message.timestamp.type=CreateTime"),
    ],
)
def test_a_config_that_breaks_a_promise_is_named_with_what_mends_it(config: str, value: str, words: str) -> None:
    (sentence,) = broken_promises(topic_told("t", SOUND | {config: value}, 6, 1), WANTED)
    assert value in sentence
    assert words in sentence


def test_fewer_copies_and_other_partitions_are_named() -> None:
    assert "3 partitions, and KAFKA_PARTITIONS is 6" in broken_promises(topic_told("t", SOUND, 3, 1), WANTED)[0]
    assert "1 copies" in broken_promises(topic_told("t", SOUND, 6, 1), Wanted(replication=3))[0]
    assert "min.insync.replicas=2" in broken_promises(topic_told("t", SOUND, 6, 3))[0]


def test_a_topic_that_refuses_every_event_or_may_lose_its_end_is_named() -> None:
    assert "refuses every event" in broken_promises(topic_told("t", SOUND | {"min.insync.replicas": "2"}, 6, 1))[0]
    unclean = SOUND | {"unclean.leader.election.enable": "true"}
    assert "may lose its end" in broken_promises(topic_told("t", unclean, 6, 1))[0]


def test_a_topic_that_is_closed_for_a_rewrite_is_not_to_be_opened_by_hand() -> None:
    (sentence,) = broken_promises(topic_told("t", SOUND | {"max.message.bytes": "0"}, 6, 1))
    assert "privacy rewrite switch" in sentence
    assert "add-config" not in sentence


def test_what_is_not_told_is_not_taken_for_good() -> None:
    assert "TopicAuthorizationFailedError" in broken_promises(Topic("t", unknown="TopicAuthorizationFailedError"))[0]
    partly = {name: value for name, value in SOUND.items() if name != "retention.ms"}
    assert "does not tell retention.ms" in broken_promises(topic_told("t", partly))[0]
