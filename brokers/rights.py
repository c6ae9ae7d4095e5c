"""What Kafka lets this user do with topics and groups (KIP-430), and the least that each part of Footfall needs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError, for_code

from brokers.rights_protocol import GroupRights, TopicRights

Operation = Literal["READ", "WRITE", "CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"]
BITS: Mapping[str, int] = {
    "READ": 3,
    "WRITE": 4,
    "CREATE": 5,
    "DELETE": 6,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
    "ALTER_CONFIGS": 11,
}


class Right(msgspec.Struct, frozen=True):
    """One operation on one topic or group; `prefixed`: on every one whose name begins so.

    `hidden`: Kafka does not even say that it is there, so DESCRIBE is not given either, which comes with every other
    right unless a rule denies it.
    """

    operation: Operation
    resource: Literal["topic", "group"]
    name: str
    prefixed: bool = False
    hidden: bool = False

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}" + (" (nor DESCRIBE it)" if self.hidden else "")


EVENTS, DEAD_LETTERS, GROUP, KEYS = "KAFKA_TOPIC", "KAFKA_DLQ_TOPIC", "KAFKA_GROUP_ID", "KAFKA_KEYS_TOPIC"
AUDIT = "KAFKA_AUDIT_TOPIC"

_REWRITTEN = (EVENTS, DEAD_LETTERS)
_ALL: Sequence[Operation] = ("READ", "WRITE", "CREATE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS")

# Found by test: with one right less, something named in docs/transport.md does not work. The names are settings.
LEAST: Mapping[str, Sequence[Right]] = {
    "command side": [Right("WRITE", "topic", EVENTS), Right("WRITE", "topic", AUDIT)],
    "projector": [
        Right("READ", "topic", EVENTS),
        Right("READ", "group", GROUP, prefixed=True),  # each generation has a group of its own
        Right("WRITE", "topic", DEAD_LETTERS),
        Right("READ", "topic", AUDIT),
        Right("WRITE", "topic", AUDIT),
    ],
    "every process with AUTH=keys": [Right("READ", "topic", KEYS)],
    "`topics create`": [
        Right("CREATE", "topic", EVENTS),
        Right("CREATE", "topic", DEAD_LETTERS),
        Right("DESCRIBE", "topic", EVENTS),
        Right("DESCRIBE", "topic", DEAD_LETTERS),
        Right("CREATE", "topic", AUDIT),
        Right("DESCRIBE", "topic", AUDIT),
    ],
    "`replay`, `rebuild`": [Right("READ", "topic", EVENTS)],
    "`status`": [Right("DESCRIBE", "topic", EVENTS), Right("DESCRIBE", "group", GROUP, prefixed=True)],
    "`keys`": [
        Right("CREATE", "topic", KEYS),
        Right("READ", "topic", KEYS),
        Right("WRITE", "topic", KEYS),
        Right("DESCRIBE_CONFIGS", "topic", KEYS),  # a topic that is not compacted would lose keys
        Right("WRITE", "topic", AUDIT),
    ],
    "`privacy`": [Right("WRITE", "topic", EVENTS)],
    # Of the old topics and of the new ones, whose names begin with theirs.
    "`privacy rewrite`": [Right(operation, "topic", name, prefixed=True) for name in _REWRITTEN for operation in _ALL],
    "`audit`": [Right("READ", "topic", AUDIT)],
}
# Without it, nobody checks what the topic promises; everything else works.
BETTER = Right("DESCRIBE_CONFIGS", "topic", EVENTS)


def least_rights(part: str, names: Mapping[str, str]) -> list[Right]:
    """Returns what a part of Footfall needs. `names`: of topics and groups, by the setting that names them."""
    return [msgspec.structs.replace(right, name=names[right.name]) for right in LEAST[part]]


def no_topic(topic: str, operation: Operation) -> str:
    """Says that Kafka shows no such topic, which it also does to whom it does not let see it."""
    return f"there is no topic {topic}, or Kafka does not let this user {operation} on topic {topic}"


async def missing_rights(client: AIOKafkaClient, wanted: Iterable[Right]) -> list[Right]:
    """Returns the rights that Kafka withholds. What it does not tell counts as given. Raises KafkaError."""
    looked_at = [await _looked_at(client, right) for right in wanted]
    return [right for right in looked_at if right is not None]


async def _looked_at(client: AIOKafkaClient, right: Right) -> Right | None:
    """The right, if it is missing; None: it is given."""
    try:
        operations = await (_of_topic if right.resource == "topic" else _of_group)(client, right.name)
    except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
        return msgspec.structs.replace(right, hidden=True)
    except NotImplementedError:  # a broker older than 2.3
        return None
    is_given = operations < 0 or operations >> BITS[right.operation] & 1  # negative: not told
    return None if is_given else right


async def topic_operations(client: AIOKafkaClient, topic: str) -> Any:
    """Returns Kafka's answer about one topic: `error_code` and `authorized_operations`.

    Raises:
        KafkaError: no broker answers.
        NotImplementedError: the broker is older than 2.3.
    """
    response = await client.send(client.get_random_node(), TopicRights(topic))
    (found,) = response.to_object()["topics"]
    return found


async def _of_topic(client: AIOKafkaClient, topic: str) -> int:
    found = await topic_operations(client, topic)
    if for_code(found["error_code"]) is TopicAuthorizationFailedError:
        raise TopicAuthorizationFailedError(topic)
    return -1 if found["error_code"] else int(found["authorized_operations"])


async def _of_group(client: AIOKafkaClient, group: str) -> int:
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.ready(node)
        response = await client.send(node, GroupRights(group))
    except GroupAuthorizationFailedError:
        raise
    except KafkaError:  # no coordinator yet: no consumer has ever joined a group
        return -1
    (found,) = response.to_object()["groups"]
    if for_code(found["error_code"]) is GroupAuthorizationFailedError:
        raise GroupAuthorizationFailedError(group)
    return -1 if found["error_code"] else int(found["authorized_operations"])
