"""Asks Kafka for a topic's id (KIP-516) and its leader epochs, which aiokafka 0.14 cannot ask for.

Metadata responses of versions 10 to 12 carry both (https://kafka.apache.org/protocol.html#The_Messages_Metadata). A
topic that is deleted and created again gets a new id. Each leader election raises its partition's leader epoch.
"""

# mypy: disable-error-code="misc"
# aiokafka is untyped, and a protocol's messages are subclasses of its classes.

import asyncio
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, NodeNotReadyError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

METADATA = 3  # the API's key
NO_TOPIC_ID = UUID(int=0)  # the broker does not know the id


class TopicMetadata(msgspec.Struct, frozen=True):
    """A topic's identity, as its brokers describe it.

    `topic_id`: None if the brokers give none (Kafka before 2.8, and some other servers). `leader_epochs`: by partition.
    """

    topic_id: UUID | None = None
    leader_epochs: Mapping[int, int] = msgspec.field(default_factory=dict)


class _Uuid(AbstractType[UUID]):
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("topic", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)
_BROKER = (
    ("node_id", Int32),
    ("host", CompactString("utf-8")),
    ("port", Int32),
    ("rack", CompactString("utf-8")),
    ("tags", TaggedFields),
)
# The fields after the topics differ between the versions. Nobody reads them.
_ANSWER = Schema(
    ("throttle_time_ms", Int32),
    ("brokers", CompactArray(*_BROKER)),
    ("cluster_id", CompactString("utf-8")),
    ("controller_id", Int32),
    ("topics", CompactArray(*_TOPIC)),
)
_ASKED = ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)))
_MAY_CREATE = ("allow_auto_topic_creation", Boolean)
_WITH_CLUSTER_RIGHTS = ("include_cluster_authorized_operations", Boolean)
_WITH_TOPIC_RIGHTS = ("include_topic_authorized_operations", Boolean)
_TAGS = ("tags", TaggedFields)


class _Answer(Response):
    API_KEY = METADATA
    API_VERSION = 12
    SCHEMA = _ANSWER


class _Ask10(RequestStruct):
    API_KEY = METADATA
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(_ASKED, _MAY_CREATE, _WITH_CLUSTER_RIGHTS, _WITH_TOPIC_RIGHTS, _TAGS)


class _Ask11(RequestStruct):
    API_KEY = METADATA
    API_VERSION = 11
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(_ASKED, _MAY_CREATE, _WITH_TOPIC_RIGHTS, _TAGS)


class _Ask12(_Ask11):
    API_VERSION = 12


class _Ask(Request[_Ask10 | _Ask11 | _Ask12]):
    API_KEY = METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[Any]) -> Any:
        rights = (False, False) if request_struct_class is _Ask10 else (False,)
        return request_struct_class([(NO_TOPIC_ID, self._topic, {})], False, *rights, {})


async def agreed_metadata(client: AIOKafkaClient, topic: str) -> TopicMetadata | None:
    """Asks every broker for the topic's id and leader epochs.

    A broker that was frozen, or cut off from the others, goes on for a while in the belief that it leads what it led.

    Returns:
        What all who answer say; None if they differ, or not more than half of the known brokers answer.
    """
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    answers = await asyncio.gather(*(topic_metadata(client, topic, node) for node in nodes), return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, TopicMetadata)]
    agree = 2 * len(told) > len(nodes) and all(answer == told[0] for answer in told)
    return told[0] if agree else None


async def topic_metadata(client: AIOKafkaClient, topic: str, node: int | None = None) -> TopicMetadata:
    """Asks a broker for the topic's id and leader epochs.

    Args:
        client: A client that is connected.
        topic: The topic.
        node: The broker's id; None: any one.

    Returns:
        The metadata; empty if the broker is too old to know topic ids.

    Raises:
        KafkaError: for example NodeNotReadyError, or UnknownTopicOrPartitionError if there is no such topic.
    """
    node = client.get_random_node() if node is None else node
    if node is None:
        raise NodeNotReadyError("no broker is known")
    try:
        answer = await client.send(node, _Ask(topic))
    except (IncompatibleBrokerVersion, NotImplementedError):  # the broker is older than topic ids
        return TopicMetadata()
    (found,) = answer.to_object()["topics"]
    if found["error_code"]:
        raise for_code(found["error_code"])(topic)
    topic_id = found["topic_id"]
    epochs = {partition["partition"]: partition["leader_epoch"] for partition in found["partitions"]}
    return TopicMetadata(None if topic_id == NO_TOPIC_ID else topic_id, epochs)
