"""Who is assigned what, as Kafka's coordinator of a consumer group sees it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

SETTLED = ("Stable", "Empty", "Dead")  # Dead: nobody has ever joined, or the group is forgotten


class Group(msgspec.Struct, frozen=True):
    """A consumer group. `members`: partition of the topic to the client id it is assigned to.

    `settled` is false in a rebalance, and when the coordinator does not tell: then nothing can be said of members.
    """

    settled: bool
    members: dict[int, str]


async def describe_group(client_options: Mapping[str, Any], group: str, topic: str) -> Group:
    """The group now, for one topic. Raises KafkaError when the brokers cannot be reached."""
    admin = AIOKafkaAdminClient(**client_options)
    await admin.start()
    try:
        (response,) = await admin.describe_consumer_groups([group])
        (found,) = response.to_object()["groups"]
    except KafkaError:  # coordinator not available, or not for us to know
        return Group(settled=False, members={})
    finally:
        await admin.close()
    members: dict[int, str] = {}
    for member in found["members"]:
        for tp in _assignment(member["member_assignment"]):
            if tp.topic == topic:
                members[tp.partition] = member["client_id"]
    return Group(settled=found["state"] in SETTLED, members=members)


def _assignment(data: bytes) -> Any:
    return ConsumerProtocolMemberAssignment.decode(data).partitions() if data else ()
