"""Describes a consumer group: its members and their assignments, as Kafka's group coordinator sees them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code

from brokers.diagnosis import with_reason

SETTLED = ("Stable", "Empty", "Dead")  # Dead: no member ever joined, or the coordinator has forgotten the group
CLIENT_ID = "footfall-projector-{owner}-{generation}"


class Member(msgspec.Struct, frozen=True):
    """A member of a consumer group: its client id, host and member id."""

    client_id: str
    host: str
    member_id: str = ""

    def projects(self, generation: str) -> bool:
        """Returns whether the member is a projector of this generation, judged by its client id."""
        return self.client_id.startswith("footfall-projector-") and self.client_id.endswith(f"-{generation}")

    def __str__(self) -> str:
        return f"client {self.client_id!r} at {self.host.removeprefix('/')}"


class Group(msgspec.Struct, frozen=True):
    """A consumer group, and the member that one partition is assigned to (`holder`).

    `error`: why the group could not be described; then its members are unknown.
    """

    state: str
    holder: Member | None = None
    members: tuple[Member, ...] = ()
    error: str | None = None

    @property
    def settled(self) -> bool:
        """Whether the group's partitions are assigned; false during a rebalance."""
        return self.state in SETTLED

    def foreign_members(self, generation: str) -> list[Member]:
        """Returns the members that are not projectors of this generation."""
        return [member for member in self.members if not member.projects(generation)]


class GroupDescription(msgspec.Struct, frozen=True):
    """A consumer group with its assignments of one topic. `holders`: the member that each partition is assigned to."""

    state: str
    members: tuple[Member, ...] = ()
    holders: dict[int, Member] = msgspec.field(default_factory=dict)  # by partition
    error: str | None = None

    def for_partition(self, partition: int) -> Group:
        """Returns the group with the holder of one partition."""
        return Group(self.state, self.holders.get(partition), self.members, self.error)


async def describe_group(client_options: Mapping[str, Any], group: str, topic: str) -> GroupDescription:
    """Asks the coordinator for a group's members and their assignments of one topic.

    Returns:
        The group. If the coordinator answers with an error, `error` names it.

    Raises:
        KafkaError: no broker can be reached.
    """
    admin = AIOKafkaAdminClient(**client_options)
    await with_reason(client_options, admin.start)
    try:
        (response,) = await admin.describe_consumer_groups([group])
        (found,) = response.to_object()["groups"]
    except GroupCoordinatorNotAvailableError:  # the answer of a cluster where no consumer has ever joined a group
        return GroupDescription("Dead")
    except KafkaError as error:
        return GroupDescription("", error=type(error).__name__)
    finally:
        await admin.close()
    return _described(found, topic)


def _described(found: Mapping[str, Any], topic: str) -> GroupDescription:
    if found["error_code"]:
        return GroupDescription("", error=for_code(found["error_code"]).__name__)
    members, holders = [], {}
    for each in found["members"]:
        member = Member(each["client_id"], each["client_host"], each["member_id"])
        members.append(member)
        for tp in _assignment(each["member_assignment"]):
            if tp.topic == topic:
                holders[tp.partition] = member
    return GroupDescription(found["state"], tuple(members), holders)


def _assignment(data: bytes) -> Any:
    return ConsumerProtocolMemberAssignment.decode(data).partitions() if data else ()
