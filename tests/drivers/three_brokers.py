"""A cluster of three brokers of a test's own: each may be killed, frozen and started again."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from rich.console import Console

from footfall.local.embedded.child_process import stop_children
from footfall.local.embedded.kafka.broker import KafkaBroker
from footfall.local.embedded.kafka.cluster import KafkaCluster
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from footfall.local.embedded.paths import StatePaths
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

NODES = (1, 2, 3)


class ThreeBrokers:
    """`address`: those of all three."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self.address = cluster.bootstrap

    def kill(self, *nodes: int) -> None:
        for node in nodes:
            self._cluster.process(node).kill()
        for node in nodes:
            self._cluster.process(node).wait(PATIENCE)

    def start(self, *nodes: int) -> None:
        for node in nodes:
            self._cluster.start_node(node)

    def freeze(self, node: int) -> None:
        self._cluster.process(node).send_signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        self._cluster.process(node).send_signal(signal.SIGCONT)

    def partitions(self, topic: str) -> Sequence[dict[str, Any]]:
        """Leader, copies and copies in sync of each partition, as soon as a broker that knows the topic tells."""
        return self._once(topic, bool)

    def leader(self, topic: str, partition: int = 0) -> int:
        return int(self.partitions(topic)[partition]["leader"])

    def wait_until_in_sync(self, topic: str, copies: int) -> None:
        """Waits until each partition has so many copies in sync, and a leader."""
        self._once(topic, lambda found: all(len(each["isr"]) == copies and each["leader"] > 0 for each in found))

    def _once(self, topic: str, is_so: Callable[[Sequence[dict[str, Any]]], bool]) -> Sequence[dict[str, Any]]:
        """The partitions, once a broker tells of some and it is so. A broker may hear of a topic later than another."""
        found: Sequence[dict[str, Any]] = []

        def told() -> bool:
            nonlocal found
            try:
                found = asyncio.run(self._described(topic))
            except (KafkaError, TimeoutError, OSError):
                return False
            return bool(found) and is_so(found)

        wait_until(told, PATIENCE, f"the partitions of {topic}")
        return found

    async def _described(self, topic: str) -> Sequence[dict[str, Any]]:
        async with asyncio.timeout(10), _admin(self.address) as admin:
            (found,) = await admin.describe_topics([topic])
            return sorted(found["partitions"], key=lambda each: int(each["partition"]))

    def make(self, topic: NewTopic) -> None:
        async def make() -> None:
            async with _admin(self.address) as admin:
                await admin.create_topics([topic])

        asyncio.run(make())

    def alter(self, topic: str, **configs: str) -> None:
        """Changes configurations of a topic; a name has underscores for dots."""
        changed = {name.replace("_", "."): value for name, value in configs.items()}

        async def alter() -> None:
            async with _admin(self.address) as admin:
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changed)])

        asyncio.run(alter())


@asynccontextmanager
async def _admin(address: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@contextmanager
def three_brokers(home: Path) -> Iterator[ThreeBrokers]:
    """Runs them for the body."""
    paths, jars = StatePaths(home), ensure_kafka_jars(Console(quiet=True))
    controllers = tuple(free_port() for _ in NODES)
    cluster = KafkaCluster(
        [
            KafkaBroker(paths.broker(node), jars, free_port(), controllers[node - 1], True, None, node, controllers)
            for node in NODES
        ]
    )
    cluster.finish_format(cluster.begin_format())
    try:
        cluster.start()
        cluster.wait()
        yield ThreeBrokers(cluster)
    finally:
        for child in cluster.children:
            child.process.kill()
        stop_children(cluster.children)
