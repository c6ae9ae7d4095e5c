"""What the topic must promise, and what it says to that: a pure comparison, for every room that looks at the topic.

The topic is the history. A topic that forgets, thins out, refuses what we may send, or stamps other times, breaks what
all else is built on, and Kafka says nothing of it.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto

import msgspec

from contracts.event import MAX_PAYLOAD_BYTES, MAX_USER_ID_LENGTH

FOR_EVER = "-1"

# The payload, a user id of the longest characters, names and times, the key, the headers, Kafka's own framing.
LARGEST_RECORD = MAX_PAYLOAD_BYTES + 16 * MAX_USER_ID_LENGTH + 4_096  # bytes

ASKED = (
    "retention.ms",
    "retention.bytes",
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
)
# What every broker tells, and what a server that only speaks Kafka's protocol may leave out.
DESCRIBED = (*ASKED, "unclean.leader.election.enable")


class Accepts(Enum):
    """What a topic accepts now."""

    RECORDS = auto()
    NOTHING = auto()  # so a rewrite of the log leaves the old topic
    NOT_TOLD = auto()  # Kafka did not answer, or this principal may not ask


class Topic(msgspec.Struct, frozen=True):
    """A topic as Kafka describes it. `unknown`: why its configuration could not be read, if it could not."""

    name: str
    configs: Mapping[str, str] = msgspec.field(default_factory=dict)
    partitions: int | None = None
    replication: int | None = None
    unknown: str | None = None

    @property
    def largest_record(self) -> int | None:
        """The largest batch of records that the topic takes, bytes; None: not known."""
        text = self.configs.get("max.message.bytes", "")
        return int(text) if text.isdigit() else None

    @property
    def accepts(self) -> Accepts:
        """Whether it accepts any record at all, as far as Kafka told."""
        if self.largest_record is None:
            return Accepts.NOT_TOLD
        return Accepts.NOTHING if self.largest_record == 0 else Accepts.RECORDS


def topic_told(
    name: str, configs: Mapping[str, str], partitions: int | None = None, replication: int | None = None
) -> Topic:
    """A topic whose configuration was told; what is missing there is unknown."""
    missing = [config for config in ASKED if config not in configs]
    unknown = f"Kafka does not tell {', '.join(missing)}" if missing else None
    return Topic(name, configs, partitions, replication, unknown)


class Wanted(msgspec.Struct, frozen=True):
    """What an operator asked for, beyond what every topic of Footfall must promise; None: whatever it is."""

    partitions: int | None = None
    replication: int | None = None


def broken_promises(topic: Topic, wanted: Wanted | None = None) -> list[str]:
    """Each promise that the topic breaks, as a sentence with what mends it. What could not be read is one, too."""
    if topic.unknown is not None:
        return [
            f"What topic {topic.name} promises could not be checked: {topic.unknown}. Grant DESCRIBE_CONFIGS on it."
        ]
    return [*_history(topic), *_records(topic), *_shape(topic, wanted or Wanted())]


def _history(topic: Topic) -> Sequence[str]:
    found = []
    for name, what in (("retention.ms", "ms"), ("retention.bytes", "bytes")):
        value = topic.configs.get(name, FOR_EVER)
        if value != FOR_EVER:
            found.append(
                f"Topic {topic.name} forgets: {name} is {value} {what}, so events vanish from the only truth. "
                f"{_mend(topic, f'{name}={FOR_EVER}')}"
            )
    policy = topic.configs.get("cleanup.policy", "delete")
    if "compact" in policy:
        found.append(
            f"Topic {topic.name} thins out: cleanup.policy is {policy}, so only the last event of each user stays. "
            f"{_mend(topic, 'cleanup.policy=delete')}"
        )
    return found


def _records(topic: Topic) -> Sequence[str]:
    found = []
    largest = topic.largest_record
    if topic.accepts is Accepts.NOTHING:
        found.append(
            f"Topic {topic.name} is closed, and refuses every event: max.message.bytes is 0, as a rewrite of a log has"
            " it. Do not open it by hand: footfall privacy rewrite switch goes on and names the new topic, and abandon"
            " opens the old one."
        )
    elif largest is not None and largest < LARGEST_RECORD:
        found.append(
            f"Topic {topic.name} refuses large events: max.message.bytes is {largest}, and an event may take "
            f"{LARGEST_RECORD} bytes. {_mend(topic, 'max.message.bytes=1048588')}"
        )
    stamp = topic.configs.get("message.timestamp.type", "CreateTime")
    if stamp != "CreateTime":
        found.append(
            f"Topic {topic.name} stamps records itself: message.timestamp.type is {stamp}, so their times are those "
            f"of Kafka, not of the command. {_mend(topic, 'message.timestamp.type=CreateTime')}"
        )
    return found


def _shape(topic: Topic, wanted: Wanted) -> Sequence[str]:
    found = []
    if wanted.partitions is not None and topic.partitions not in (None, wanted.partitions):
        found.append(
            f"Topic {topic.name} has {topic.partitions} partitions, and KAFKA_PARTITIONS is {wanted.partitions}: set "
            "that right. Adding partitions sends users' later events to other partitions than their earlier ones."
        )
    if wanted.replication is not None and topic.replication is not None and topic.replication < wanted.replication:
        found.append(
            f"Topic {topic.name} has {topic.replication} copies of each partition, and KAFKA_REPLICATION_FACTOR is "
            f"{wanted.replication}. Add copies with kafka-reassign-partitions.sh."
        )
    least = topic.configs.get("min.insync.replicas", "")
    if topic.replication is not None and least.isdigit() and topic.replication > 1 and int(least) < 2:
        found.append(
            f"Topic {topic.name} acknowledges with one copy: min.insync.replicas is {least} of {topic.replication}, so "
            f"an acknowledged event may be lost with one broker. {_mend(topic, 'min.insync.replicas=2')}"
        )
    if topic.replication is not None and least.isdigit() and int(least) > topic.replication:
        found.append(
            f"Topic {topic.name} refuses every event: min.insync.replicas is {least}, and each partition has "
            f"{topic.replication} copies. {_mend(topic, f'min.insync.replicas={topic.replication}')}"
        )
    if topic.configs.get("unclean.leader.election.enable") == "true":
        found.append(
            f"Topic {topic.name} may lose its end: unclean.leader.election.enable is true, so a copy that lacks "
            f"acknowledged events may become the truth. {_mend(topic, 'unclean.leader.election.enable=false')}"
        )
    return found


def _mend(topic: Topic, config: str) -> str:
    return f"Mend it: kafka-configs.sh --alter --entity-type topics --entity-name {topic.name} --add-config {config}"
