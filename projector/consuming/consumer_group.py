"""Who is assigned what, as Kafka's coordinator of a consumer group sees it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code

SETTLED = ("Stable", "Empty", "Dead")  # Dead: nobody has ever joined, or the group is forgotten
CLIENT_ID = "footfall-projector-{owner}-{generation}"


class Member(msgspec.Struct, frozen=True):
    """A member of a group, by what it says of itself and where it comes from."""

    client_id: str
    host: str
    member_id: str = ""

    def projects(self, generation: str) -> bool:
        """Whether it is a projector of this generation, by its name."""
        return self.client_id.startswith("footfall-projector-") and self.client_id.endswith(f"-{generation}")

    def __str__(self) -> str:
        return f"client {self.client_id!r} at {self.host.removeprefix('/')}"


class Group(msgspec.Struct, frozen=True):
    """A consumer group, and who in it holds one partition.

    `error`: why it cannot be looked at; then nothing can be said of members.
    """

    state: str
    holder: Member | None = None
    members: tuple[Member, ...] = ()
    error: str | None = None

    @property
    def settled(self) -> bool:
        """Whether its partitions are dealt out; false in a rebalance."""
        return self.state in SETTLED

    def strangers(self, generation: str) -> list[Member]:
        """The members that are no projectors of this generation."""
        return [member for member in self.members if not member.projects(generation)]


class Described(msgspec.Struct, frozen=True):
    """A consumer group with all its assignments of one topic."""

    state: str
    members: tuple[Member, ...] = ()
    holders: dict[int, Member] = msgspec.field(default_factory=dict)  # by partition
    error: str | None = None

    def of(self, partition: int) -> Group:
        """The group as one partition sees it."""
        return Group(self.state, self.holders.get(partition), self.members, self.error)


async def describe_group(client_options: Mapping[str, Any], group: str, topic: str) -> Described:
    """The group now, for one topic. Raises KafkaError when the brokers cannot be reached."""
    admin = AIOKafkaAdminClient(**client_options)
    await admin.start()
    try:
        (response,) = await admin.describe_consumer_groups([group])
        (found,) = response.to_object()["groups"]
    except GroupCoordinatorNotAvailableError:  # on a cluster where no consumer has ever joined a group
        return Described("Dead")
    except KafkaError as error:
        return Described("", error=type(error).__name__)
    finally:
        await admin.close()
    return _described(found, topic)


def _described(found: Mapping[str, Any], topic: str) -> Described:
    if found["error_code"]:
        return Described("", error=for_code(found["error_code"]).__name__)
    members, holders = [], {}
    for each in found["members"]:
        member = Member(each["client_id"], each["client_host"], each["member_id"])
        members.append(member)
        for tp in _assignment(each["member_assignment"]):
            if tp.topic == topic:
                holders[tp.partition] = member
    return Described(found["state"], tuple(members), holders)


def _assignment(data: bytes) -> Any:
    return ConsumerProtocolMemberAssignment.decode(data).partitions() if data else ()
