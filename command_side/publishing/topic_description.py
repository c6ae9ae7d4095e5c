"""What Kafka lets this producer do with its topic, and what the topic promises, asked over its own connection."""

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest

from brokers.rights import BITS, topic_operations
from contracts.topic_promises import DESCRIBED, Topic, topic_told

TOPIC = 2  # a kind of resource
NOT_ALLOWED = "Kafka does not let this user WRITE to topic {}"


class Rights(msgspec.Struct, frozen=True):
    """Whether the topic may be written to. None: Kafka does not tell; `problem` says why it may not."""

    may_write: bool | None
    problem: str = ""


async def rights(client: AIOKafkaClient, topic: str) -> Rights:
    """What Kafka allows now. Raises KafkaError when no broker answers."""
    try:
        found = await topic_operations(client, topic)
    except NotImplementedError:  # a broker older than 2.3
        return Rights(None)
    if for_code(found["error_code"]) is TopicAuthorizationFailedError:  # DESCRIBE comes with WRITE, unless it is denied
        return Rights(False, f"{NOT_ALLOWED.format(topic)} (nor DESCRIBE it): every command fails")
    if found["error_code"]:
        return Rights(False, f"{for_code(found['error_code']).__name__} on topic {topic}")
    operations = found["authorized_operations"]
    if operations < 0:  # Kafka's word for "not asked"
        return Rights(None)
    may = bool(operations >> BITS["WRITE"] & 1)
    return Rights(may, "" if may else f"{NOT_ALLOWED.format(topic)}: every command fails")


async def promises(client: AIOKafkaClient, topic: str) -> Topic:
    """The topic's configuration. Raises KafkaError when no broker answers."""
    request = DescribeConfigsRequest([(TOPIC, topic, list(DESCRIBED))], include_synonyms=False)
    try:
        response = await client.send(client.get_random_node(), request)
    except (KafkaError, NotImplementedError) as error:
        return Topic(topic, unknown=type(error).__name__)
    (found,) = response.to_object()["resources"]
    if found["error_code"]:
        return Topic(topic, unknown=for_code(found["error_code"]).__name__)
    return topic_told(topic, {each["config_names"]: each["config_value"] for each in found["config_entries"]})
