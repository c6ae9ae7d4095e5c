"""An event that the topic will not take is refused for good, with the reason, and harms nobody beside it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import read_topic

LARGEST = 3_000  # bytes


@pytest.fixture
def client(footfall: Footfall) -> Iterator[httpx.Client]:
    asyncio.run(bound(footfall))
    side = footfall.start("command-side", KAFKA_COMPRESSION="none")
    with httpx.Client(base_url=side.url, timeout=60) as found:
        yield found


async def bound(footfall: Footfall, largest: int = LARGEST) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=footfall.servers.kafka)
    await admin.start()
    try:
        small = {"max.message.bytes": str(largest)}
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


def test_a_topic_that_is_closed_refuses_nothing_for_good(client: httpx.Client, footfall: Footfall) -> None:
    """A rewrite of the log closes the old topic so: a client that were told 413 would give its event up."""
    asyncio.run(bound(footfall, 0))
    for size in (10, LARGEST):
        answer = client.post("/events/generate", json=command(size), headers={"idempotency-key": f"of-{size}"})
        assert answer.status_code == 500, answer.text
        assert "try again" in answer.json()["error"]
    batch = client.post("/events/generate/batch", json=[command(), command(LARGEST)])
    assert [result["status"] for result in batch.json()["results"]] == [500, 500]
    wait_until(lambda: client.get("/health/ready").status_code == 503, PATIENCE, "readiness to look at the topic")
    state = client.get("/health/ready")
    assert "privacy rewrite switch" in state.text
    assert "add-config" not in state.text, "whoever opened it would have events that the new topic lacks"
    asyncio.run(bound(footfall, 1_048_588))
    again = client.post("/events/generate", json=command(), headers={"idempotency-key": "of-10"})
    assert again.status_code == 201
    assert client.get("/health/ready").status_code == 200
