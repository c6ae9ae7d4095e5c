"""Compares the topics, and the cluster below them, with what `topics create` makes: what differs, and what it means."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from brokers.diagnosis import with_reason
from contracts.topic_promises import Topic, Wanted, broken_promises
from operations.doctor.kafka import copies
from operations.settings import TopicSettings
from operations.setup import wanted_partitions
from projector.consuming.topic_description import describe_with

GROUPS_TOPIC = "__consumer_offsets"  # Kafka's own: which projector holds which partition
SAFE_COPIES = 3  # one broker may be away, and one more may then die


class Checked(msgspec.Struct, frozen=True):
    """One topic: what differs from a new one, and what is wrong with its copies now. Empty: nothing."""

    topic: str
    differs: Sequence[str]


async def check_topics(settings: TopicSettings) -> list[Checked]:
    """Describes the topics and the cluster; changes nothing. Raises KafkaError when no broker answers."""
    options = settings.client_options()
    admin = AIOKafkaAdminClient(**options)
    await with_reason(options, admin.start)
    try:
        brokers = len((await admin.describe_cluster())["brokers"])
        wanted = wanted_partitions(settings)
        described = await admin.describe_topics([*wanted, GROUPS_TOPIC])
        found = {topic["topic"]: topic["partitions"] for topic in described}
        checked = [Checked(name, await _differences(admin, settings, name, found[name], brokers)) for name in wanted]
        groups = copies_of_few(GROUPS_TOPIC, found[GROUPS_TOPIC], brokers)
        return [*checked, Checked(GROUPS_TOPIC, groups)] if groups else checked
    finally:
        await admin.close()


async def _differences(
    admin: AIOKafkaAdminClient, settings: TopicSettings, name: str, partitions: Sequence[Any], brokers: int
) -> Sequence[str]:
    if not partitions:
        return [f"There is no topic {name}. Run `footfall topics create`."]
    wanted = Wanted(wanted_partitions(settings)[name], settings.kafka_replication_factor)
    now = [f"{each.says} {each.remedy}".strip() for each in copies(partitions) if each.verdict != "well"]
    topic = await describe_with(admin, name)
    return [*broken_promises(topic, wanted), *cannot_spare_one(topic), *copies_of_few(name, partitions, brokers), *now]


def cannot_spare_one(topic: Topic) -> list[str]:
    """Returns a sentence if a topic of several copies needs all of them for each event."""
    least = topic.configs.get("min.insync.replicas", "")
    if topic.replication in (None, 1) or least != str(topic.replication):
        return []
    sentence = (
        f"Topic {topic.name} cannot spare a broker: min.insync.replicas is {least} of {topic.replication} copies, so "
        "with one broker away every event is refused; nothing is lost. A third copy mends it."
    )
    return [sentence]


def copies_of_few(name: str, partitions: Sequence[Mapping[str, Any]], brokers: int) -> list[str]:
    """Returns a sentence if a cluster of several brokers keeps fewer copies of a topic than it could."""
    fewest = min((len(each["replicas"]) for each in partitions), default=SAFE_COPIES)
    if fewest >= min(SAFE_COPIES, brokers):
        return []
    means = "while their broker is away, what is in them cannot be read or written, and it is gone with its disk"
    if name == GROUPS_TOPIC:
        means = "while their broker is away, no projector is given a partition, and nothing new becomes visible"
    sentence = (
        f"Topic {name} has partitions with {fewest} {'copy' if fewest == 1 else 'copies'}, and there are {brokers} "
        f"brokers: {means}. Add copies with kafka-reassign-partitions.sh."
    )
    return [sentence]
