"""Who asks the log about its offsets leaves no connection open, whatever became of aiokafka's fetcher."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from brokers.settings import KafkaSettings
from projector.consuming.log_probe import LogProbe
from tests.patience import PATIENCE
from tests.producing import Raw, send
from tests.servers import Servers


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(2)


@pytest.fixture
def wide_topic(new_topic: Callable[..., str]) -> str:
    return new_topic(12)


def options_of(servers: Servers) -> dict[str, Any]:
    return dict(KafkaSettings(kafka_bootstrap_servers=servers.kafka).client_options())


async def test_a_partition_that_is_read_to_its_end_does_not_kill_the_fetcher(real_servers: Servers, topic: str) -> None:
    await send(real_servers.kafka, topic, [Raw(b"first", b"user", 0)])
    probe = LogProbe(options_of(real_servers), "test-probe")
    read, open_now = TopicPartition(topic, 1), TopicPartition(topic, 0)
    for _ in range(5):
        assert await probe.first_records({read: 0}, 5.0) == {}
        await asyncio.sleep(0)
        found = await probe.first_records({open_now: 0, read: 0}, 5.0)
        assert found[open_now].value == b"first"
    await probe.close()


@pytest.mark.parametrize(("size", "most"), [(500, 4), (100_000, 15)], ids=["usual batches", "large batches"])
async def test_the_first_records_of_many_partitions_are_asked_for_together(
    real_servers: Servers, wide_topic: str, size: int, most: int
) -> None:
    """aiokafka fetches nothing of a broker for 0.1 s while it holds records that nobody has taken."""
    topic = wide_topic
    for _ in range(3):  # batches, so that there is more to read behind the first
        await send(real_servers.kafka, topic, [Raw(random.randbytes(size), b"user", n) for n in range(12)])
    probe, wanted = LogProbe(options_of(real_servers), "test-probe"), {TopicPartition(topic, n): 1 for n in range(12)}
    await probe.ends(wanted)
    consumer: Any = probe._consumer
    asked: list[str] = []
    plain = consumer._client.send

    async def send_and_note(node: int, request: Any, **options: Any) -> Any:
        asked.append(type(request).__name__)
        return await plain(node, request, **options)

    consumer._client.send = send_and_note
    found = await probe.first_records(wanted, PATIENCE)
    assert {tp.partition: record.offset for tp, record in found.items()} == dict.fromkeys(range(12), 1)
    assert sum("Fetch" in name for name in asked) <= most, asked
    await probe.close()


async def test_a_fetcher_that_has_died_leaves_no_connection_open(real_servers: Servers, topic: str) -> None:
    """Kept by `tests/open_connections.py`, which looks at what is left after each test."""
    probe = LogProbe(options_of(real_servers), "test-probe")
    partition = TopicPartition(topic, 0)
    assert await probe.ends([partition]) == {partition: 0}

    consumer: Any = probe._consumer
    ends = consumer._fetcher.close

    async def dies() -> None:
        await ends()
        raise KafkaError("planted")

    consumer._fetcher.close = dies
    connections = [*consumer._client._conns.values()]
    assert any(each.connected() for each in connections)
    await probe.close()
    assert not any(each.connected() for each in connections)
