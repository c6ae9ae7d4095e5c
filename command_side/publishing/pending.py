"""Records on their way, and their publishers: each with a future or a call of its own, or many behind one future."""

import asyncio
from collections.abc import Callable, Sequence

from command_side.publishing.event_log import UNKNOWN, Outcome
from contracts.record import EventRecord
from telemetry.logs import get_logger


class Waiting:
    """One record, the future of its publisher, and until when the publisher waits (loop time)."""

    __slots__ = ("deadline", "future", "record", "sent")

    def __init__(self, record: EventRecord, future: asyncio.Future[Outcome], deadline: float) -> None:
        self.record = record
        self.future = future
        self.deadline = deadline
        self.sent = False

    def settled(self) -> bool:
        """Whether nobody waits any more: answered, or its publisher has left."""
        return self.future.done()

    def settle(self, outcome: Outcome) -> None:
        """What became of it. The first word counts."""
        if not self.future.done():
            self.future.set_result(outcome)


class Told(Waiting):
    """A record whose publisher is told the outcome by a call: no future, and no turn of the event loop."""

    __slots__ = ("_tell",)

    def __init__(self, record: EventRecord, tell: Callable[[Outcome], None], deadline: float) -> None:  # no future
        self.record = record
        self.deadline = deadline
        self.sent = False
        self._tell: Callable[[Outcome], None] | None = tell  # None: told

    def withdraw(self) -> None:
        """See `Handed.withdraw`."""
        self._tell = None

    def settled(self) -> bool:
        """See `Waiting.settled`."""
        return self._tell is None

    def settle(self, outcome: Outcome) -> None:
        """See `Waiting.settle`."""
        tell, self._tell = self._tell, None  # the publisher knows us: a cycle, which the collector would have to find
        if tell is None:
            return
        try:
            tell(outcome)
        except Exception as error:  # noqa: BLE001 - the others of its round are still to be told
            get_logger("command_side").error("publisher_failed", exc_info=error)


class Group:
    """Records that were handed over together: one future for the outcomes of all, in their order.

    It does not know its members: that would be a cycle for the collector to find, and cost 1 us a record.
    """

    def __init__(self, size: int, future: asyncio.Future[list[Outcome]]) -> None:
        self.future = future
        self.outcomes: list[Outcome] = [UNKNOWN] * size  # until a member is settled; nobody looks before all are
        self.missing = size


def members_of(group: Group, records: Sequence[EventRecord], deadline: float) -> list["Member"]:
    """What waits for the group: each of its records."""
    return [Member(record, group, index, deadline) for index, record in enumerate(records)]


class Member(Waiting):
    """One record of a group."""

    __slots__ = ("_done", "_group", "_index")

    def __init__(self, record: EventRecord, group: Group, index: int, deadline: float) -> None:  # no future of its own
        self.record = record
        self.deadline = deadline
        self.sent = False
        self._group = group
        self._index = index
        self._done = False

    def settled(self) -> bool:
        """See `Waiting.settled`."""
        return self._done or self._group.future.done()

    def settle(self, outcome: Outcome) -> None:
        """See `Waiting.settle`."""
        if self._done:
            return
        self._done = True
        group = self._group
        group.outcomes[self._index] = outcome
        group.missing -= 1
        if not group.missing and not group.future.done():
            group.future.set_result(group.outcomes)
