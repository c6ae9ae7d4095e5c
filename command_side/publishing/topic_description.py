"""What Kafka lets this producer do with its topic, and what the topic promises, asked over its own connection."""

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from contracts.topic_promises import ASKED, Topic, topic_told

TOPIC = 2  # a kind of resource
WRITE = 4  # an operation: its bit in the answer (KIP-430)


class MetadataResponseV8(Response):  # type: ignore[misc]  # aiokafka is untyped
    """Kafka's protocol, Metadata, version 8: the first that tells what the client may do."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String()), ("port", Int32), ("rack", String()))),
        ("cluster_id", String()),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String()),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class MetadataRequestV8(RequestStruct):  # type: ignore[misc]
    """See `MetadataResponseV8`."""

    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataResponseV8
    SCHEMA = Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class TopicRights(Request[MetadataRequestV8]):  # type: ignore[misc]
    """Asks what the client may do with one topic."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[MetadataRequestV8]) -> MetadataRequestV8:
        """See `Request.build`."""
        return request_struct_class([self._topic], False, False, True)


class Rights(msgspec.Struct, frozen=True):
    """Whether the topic may be written to. None: Kafka does not tell; `problem` says why it may not."""

    may_write: bool | None
    problem: str = ""


async def rights(client: AIOKafkaClient, topic: str) -> Rights:
    """What Kafka allows now. Raises KafkaError when no broker answers."""
    try:
        response = await client.send(client.get_random_node(), TopicRights(topic))
    except NotImplementedError:  # a broker older than 2.3
        return Rights(None)
    (found,) = response.to_object()["topics"]
    if found["error_code"]:
        return Rights(False, f"{for_code(found['error_code']).__name__} on topic {topic}")
    operations = found["authorized_operations"]
    if operations < 0:  # Kafka's word for "not asked"
        return Rights(None)
    may = bool(operations >> WRITE & 1)
    return Rights(may, "" if may else f"Kafka does not let this user WRITE to topic {topic}: every command fails")


async def promises(client: AIOKafkaClient, topic: str) -> Topic:
    """The topic's configuration. Raises KafkaError when no broker answers."""
    request = DescribeConfigsRequest([(TOPIC, topic, list(ASKED))], include_synonyms=False)
    try:
        response = await client.send(client.get_random_node(), request)
    except (KafkaError, NotImplementedError) as error:
        return Topic(topic, unknown=type(error).__name__)
    (found,) = response.to_object()["resources"]
    if found["error_code"]:
        return Topic(topic, unknown=for_code(found["error_code"]).__name__)
    return topic_told(topic, {each["config_names"]: each["config_value"] for each in found["config_entries"]})
