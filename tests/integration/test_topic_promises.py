"""What the topic does not promise is said at the start, by status, by health and by `topics create`."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.conftest import Footfall
from tests.drivers.commands import as_json, owners_command, status_here
from tests.processes import Process, wait_until
from tests.producing import logged, start_projector

PATIENCE = 60.0  # seconds

pytestmark = pytest.mark.timeout(300)  # many commands, each a process
CARELESS = {
    "retention.ms": "604800000",
    "cleanup.policy": "compact,delete",
    "max.message.bytes": "3000",
    "message.timestamp.type": "LogAppendTime",
}
WORDS = ("retention.ms=-1", "cleanup.policy=delete", "max.message.bytes=1048588", "message.timestamp.type=CreateTime")


@pytest.fixture
def careless(footfall: Footfall) -> Iterator[Footfall]:
    """A Footfall whose topic somebody else made."""
    footfall.topic += "-careless"
    asyncio.run(create(footfall))
    yield footfall
    footfall.close()


async def create(footfall: Footfall) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=footfall.servers.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(footfall.topic, 2, 1, topic_configs=CARELESS)])
    finally:
        await admin.close()


def detail(process: Process) -> str:
    found: str = httpx.get(f"{process.url}/health", timeout=10).json()["dependencies"]["kafka"]["detail"]
    return found


def test_each_broken_promise_is_named_with_what_mends_it_wherever_people_look(careless: Footfall) -> None:
    created = owners_command(careless, "topics", "create")
    assert created.returncode == 0
    assert f"{careless.topic}: exists\n" in created.stdout
    for word in WORDS:
        assert word in created.stderr
    assert "has 2 partitions, and KAFKA_PARTITIONS is 6" in created.stderr

    command_side = careless.start("command-side")
    projector = start_projector(careless)
    for process in (command_side, projector):
        wait_until(lambda process=process: WORDS[0] in detail(process), PATIENCE, "health to say it")  # type: ignore[misc]
        assert all(word in detail(process) for word in WORDS)
        reasons = " ".join(line["reason"] for line in logged(process, "topic_promise_broken"))
        assert all(word in reasons for word in WORDS)
    looked = status_here(careless, "--json")
    assert len(as_json(looked)["warnings"]) == len(WORDS)
    assert looked.returncode == 0  # nothing has happened yet
    assert "forgets: retention.ms is 604800000 ms" in status_here(careless).stdout
