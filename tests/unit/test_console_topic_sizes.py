"""What the settings page says of the topic's size: a Kafka that is away is not one that does not tell."""

import socket

from brokers.settings import KafkaSettings
from console.pages.in_force import NO_ANSWER, NOT_DESCRIBED, size_told, topic_sizes


async def test_a_kafka_that_is_away_has_not_answered() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings = KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{free.getsockname()[1]}")
        assert await topic_sizes(settings, [0]) is NO_ANSWER


def test_each_outcome_is_told_by_its_own_words() -> None:
    assert size_told(NO_ANSWER, 0) == "Kafka did not answer how large it is"
    assert size_told({1: 10}, 0) == NOT_DESCRIBED
    assert size_told({0: 2_000_000}, 0).endswith("with all copies")
    assert size_told({0: 0}, 0).endswith("with all copies"), "an empty partition has a size"
