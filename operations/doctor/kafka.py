"""What can be wrong with Kafka. Each check describes, joins no group, and changes nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NodeNotReadyError

from brokers.diagnosis import with_reason
from brokers.settings import KafkaSettings
from contracts.topic_promises import broken_promises
from operations.doctor.findings import Finding, well_unless
from projector.consuming.topic_description import describe_with

SLOW = 1.0  # seconds for one question
TRIES, PAUSE = 10, 0.1  # seconds between two brokers that are asked the same

Answer = TypeVar("Answer")


async def kafka_findings(settings: KafkaSettings, others: Sequence[str] = ()) -> list[Finding]:
    """Brokers, the topic's promises, its copies, and `others`. Raises KafkaError when no broker answers."""
    options = settings.client_options()
    admin = AIOKafkaAdminClient(**options)
    await with_reason(options, admin.start)
    try:
        cluster, slowest = await timed(admin.describe_cluster)
        (topic,), took = await timed(lambda: admin.describe_topics([settings.kafka_topic]))
        if not topic["partitions"]:
            says = f"There is no topic {settings.kafka_topic}."
            lead = answered(len(cluster["brokers"]), max(slowest, took))
            return [lead, Finding("topic", "problem", says, "Run `footfall topics create`.")]
        described, described_in = await timed(lambda: describe_with(admin, settings.kafka_topic))
        topics, listed_in = await timed(admin.list_topics)
        found = [answered(len(cluster["brokers"]), max(slowest, took, described_in, listed_in))]
        broken = [Finding("topic", "warning", sentence) for sentence in broken_promises(described)]
        found += well_unless("topic", broken, "It keeps its promises.")
        least = described.configs.get("min.insync.replicas", "")
        found += copies(topic["partitions"], int(least) if least.isdigit() else 1)
        return [*found, *other_topics(topics, others)]
    finally:
        await admin.close()


async def timed(ask: Callable[[], Awaitable[Answer]]) -> tuple[Answer, float]:
    """An answer, and the seconds that it took.

    aiokafka asks any broker that the cluster still names, for some seconds also one that is gone: then ask another.
    """
    for left in reversed(range(TRIES)):
        began = time.monotonic()
        try:
            answer = await ask()
        except NodeNotReadyError:
            if not left:
                raise
            await asyncio.sleep(PAUSE)
        else:
            return answer, time.monotonic() - began
    raise AssertionError


def answered(brokers: int, seconds: float) -> Finding:
    """Kafka answers, and within a time in which clients can wait for it. `seconds`: for the slowest question."""
    says = f"{brokers} brokers answer."
    if seconds < SLOW:
        return Finding("Kafka", "well", says)
    remedy = "Look at the brokers' disks, copies and load."
    return Finding(
        "Kafka", "warning", f"{says} One took {seconds:.1f} s for a question that takes milliseconds.", remedy
    )


def other_topics(there: Iterable[str], wanted: Sequence[str]) -> list[Finding]:
    """The topics beside the events' are there, as far as this user is shown them."""
    found = [
        Finding("other topics", "warning", f"There is no topic {name}.", "Run `footfall topics create`.")
        for name in sorted(set(wanted) - set(there))
    ]
    return well_unless("other topics", found, "They are there.")


def copies(partitions: Sequence[Any], least: int = 1) -> list[Finding]:
    """Each partition has a leader, and all its copies. `least`: copies in sync without which Kafka takes no events."""
    found = []
    for each in sorted(partitions, key=lambda each: each["partition"]):
        where = f"Partition {each['partition']}"
        if each["leader"] < 0:
            says = f"{where} has no leader: nothing is written to it, and nothing read."
            found.append(Finding("copies", "problem", says, f"Start the brokers {each['replicas']}."))
        elif len(each["isr"]) < least:
            says = f"{where} takes no events: {len(each['isr'])} copies in sync, min.insync.replicas is {least}."
            found.append(Finding("copies", "problem", says, f"Start the brokers {each['replicas']}."))
        elif len(each["isr"]) < len(each["replicas"]):
            behind = sorted(set(each["replicas"]) - set(each["isr"]))
            says = f"{where} has {len(each['isr'])} of {len(each['replicas'])} copies in sync."
            found.append(Finding("copies", "warning", says, f"Look at the brokers {behind}."))
    return well_unless("copies", found, f"All {len(partitions)} partitions have a leader and all their copies.")
