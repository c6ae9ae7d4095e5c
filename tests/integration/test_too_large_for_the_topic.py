"""An event that the topic will not take is refused for good, with the reason, and harms nobody beside it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.conftest import Footfall
from tests.producing import read_topic

LARGEST = 3_000  # bytes


@pytest.fixture
def client(footfall: Footfall) -> Iterator[httpx.Client]:
    asyncio.run(bound(footfall))
    side = footfall.start("command-side", KAFKA_COMPRESSION="none")
    with httpx.Client(base_url=side.url, timeout=60) as found:
        yield found


async def bound(footfall: Footfall) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=footfall.servers.kafka)
    await admin.start()
    try:
        small = {"max.message.bytes": str(LARGEST)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, footfall.topic, small)])
    finally:
        await admin.close()


def command(size: int = 10) -> dict[str, Any]:
    return {"userId": "user-1", "eventType": "LOGIN", "payload": {"text": "x" * size}}


def test_one_command_is_answered_413_and_so_is_its_repeat(client: httpx.Client) -> None:
    for key in ("k", "k", None):
        answer = client.post("/events/generate", json=command(LARGEST), headers={"idempotency-key": key} if key else {})
        assert answer.status_code == 413
        assert "max.message.bytes" in answer.json()["error"]
        assert "retry-after" not in answer.headers
    assert client.post("/events/generate", json=command()).status_code == 201


def test_of_a_batch_only_what_is_too_large_is_refused(client: httpx.Client, footfall: Footfall) -> None:
    answer = client.post("/events/generate/batch", json=[command(), command(LARGEST), command(), command(LARGEST)])
    assert answer.status_code == 207
    assert [result["status"] for result in answer.json()["results"]] == [201, 413, 201, 413]
    assert client.post("/events/generate/batch", json=[command(LARGEST)]).status_code == 400
    assert len(read_topic(footfall)) == 2
    assert 'publish_failures_total{outcome="too_large"} 3.0' in client.get("/metrics").text
