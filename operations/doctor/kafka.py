"""What can be wrong with Kafka. Each check describes, joins no group, and changes nothing."""

from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from brokers.diagnosis import with_reason
from brokers.settings import KafkaSettings
from contracts.topic_promises import broken_promises
from operations.doctor.findings import Finding, well_unless
from projector.consuming.topic_description import describe_with


async def kafka_findings(settings: KafkaSettings) -> list[Finding]:
    """Brokers, the topic's promises, and its copies. Raises KafkaError when no broker answers."""
    options = settings.client_options()
    admin = AIOKafkaAdminClient(**options)
    await with_reason(options, admin.start)
    try:
        cluster = await admin.describe_cluster()
        found = [Finding("Kafka", "well", f"{len(cluster['brokers'])} brokers answer.")]
        (topic,) = await admin.describe_topics([settings.kafka_topic])
        if not topic["partitions"]:
            says = f"There is no topic {settings.kafka_topic}."
            return [*found, Finding("topic", "problem", says, "Run `footfall topics create`.")]
        promises = broken_promises(await describe_with(admin, settings.kafka_topic))
        broken = [Finding("topic", "warning", sentence) for sentence in promises]
        return [*found, *well_unless("topic", broken, "It keeps its promises."), *copies(topic["partitions"])]
    finally:
        await admin.close()


def copies(partitions: Sequence[Any]) -> list[Finding]:
    """Each partition has a leader, and all its copies."""
    found = []
    for each in sorted(partitions, key=lambda each: each["partition"]):
        where = f"Partition {each['partition']}"
        if each["leader"] < 0:
            says = f"{where} has no leader: nothing is written to it, and nothing read."
            found.append(Finding("copies", "problem", says, f"Start the brokers {each['replicas']}."))
        elif len(each["isr"]) < len(each["replicas"]):
            behind = sorted(set(each["replicas"]) - set(each["isr"]))
            says = f"{where} has {len(each['isr'])} of {len(each['replicas'])} copies in sync."
            found.append(Finding("copies", "warning", says, f"Look at the brokers {behind}."))
    return well_unless("copies", found, f"All {len(partitions)} partitions have a leader and all their copies.")
