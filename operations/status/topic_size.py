"""How many bytes a topic takes at its brokers, which aiokafka 0.14 has no request for."""

# mypy: disable-error-code="misc"
# aiokafka is untyped, and a protocol's messages are subclasses of its classes.

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from brokers.diagnosis import with_reason
from brokers.settings import KafkaSettings


class LogDirsResponseV1(Response):
    """Kafka's protocol, DescribeLogDirs, version 1. Without DESCRIBE on the cluster it has no results."""

    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("error_code", Int16),
                ("log_dir", String()),
                (
                    "topics",
                    Array(
                        ("topic", String()),
                        (
                            "partitions",
                            Array(("partition", Int32), ("size", Int64), ("offset_lag", Int64), ("is_future", Boolean)),
                        ),
                    ),
                ),
            ),
        ),
    )


class LogDirsRequestV1(RequestStruct):
    """See `LogDirsResponseV1`."""

    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = LogDirsResponseV1
    SCHEMA = Schema(("topics", Array(("topic", String()), ("partitions", Array(Int32)))))


class LogDirs(Request[LogDirsRequestV1]):
    """Asks one broker how large its copies of some partitions are."""

    API_KEY = 35

    def __init__(self, topic: str, partitions: Sequence[int]) -> None:
        self._asked = [(topic, list(partitions))]

    def build(self, request_struct_class: type[LogDirsRequestV1]) -> LogDirsRequestV1:
        """See `Request.build`."""
        return request_struct_class(self._asked)


async def topic_bytes(settings: KafkaSettings, partitions: Sequence[int]) -> Mapping[int, int]:
    """Bytes of each partition, of all its copies.

    One that is missing was not told, as by a cluster that we may not DESCRIBE. Raises KafkaError when a broker is away.
    """
    options = settings.client_options()
    client: Any = AIOKafkaClient(**options)
    sizes: Counter[int] = Counter()
    try:
        await with_reason(options, client.bootstrap)
        for node in [broker.nodeId for broker in client.cluster.brokers()]:
            if not await client.ready(node):
                raise NodeNotReadyError(node)
            answer = await client.send(node, LogDirs(settings.kafka_topic, partitions))
            for directory in answer.to_object()["results"]:
                for topic in directory["topics"]:
                    sizes.update({each["partition"]: each["size"] for each in topic["partitions"]})
    finally:
        await client.close()
    return sizes
