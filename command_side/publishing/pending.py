"""Records on their way, and their publishers: each with a call of its own, or many behind one future."""

import asyncio
from collections.abc import Callable, Sequence

from command_side.publishing.event_log import UNKNOWN, Outcome
from contracts.record import EventRecord
from telemetry.logs import get_logger


class Pending:
    """One record, and until when its publisher waits (loop time)."""

    __slots__ = ("deadline", "record", "sent")

    record: EventRecord
    deadline: float
    sent: bool

    def settled(self) -> bool:
        """Whether nobody waits any more: answered, or its publisher has left."""
        raise NotImplementedError

    def settle(self, outcome: Outcome) -> None:
        """Tells the publisher what became of it. The first word counts."""
        raise NotImplementedError


class PendingRecord(Pending):
    """A record whose publisher is called with the outcome: no future, and no turn of the event loop."""

    __slots__ = ("_on_result",)

    def __init__(self, record: EventRecord, on_result: Callable[[Outcome], None], deadline: float) -> None:
        self.record = record
        self.deadline = deadline
        self.sent = False
        self._on_result: Callable[[Outcome], None] | None = on_result  # None: called, or withdrawn

    def withdraw(self) -> None:
        """See `PendingPublish.withdraw`."""
        self._on_result = None

    def settled(self) -> bool:
        """See `Pending.settled`."""
        return self._on_result is None

    def settle(self, outcome: Outcome) -> None:
        """See `Pending.settle`."""
        # The publisher knows us: a cycle, which the collector would have to find.
        on_result, self._on_result = self._on_result, None
        if on_result is None:
            return
        try:
            on_result(outcome)
        except Exception as error:  # noqa: BLE001 - the others of its round are still to be told
            get_logger("command_side").error("publisher_failed", exc_info=error)


class Group:
    """Records that are published together: one future for the outcomes of all, in their order.

    It does not know its members: that would be a cycle for the collector to find, and cost 1 us a record.
    """

    def __init__(self, size: int, future: asyncio.Future[list[Outcome]]) -> None:
        self.future = future
        self.outcomes: list[Outcome] = [UNKNOWN] * size  # until a member is settled; nobody looks before all are
        self.missing = size


def members_of(group: Group, records: Sequence[EventRecord], deadline: float) -> list["Member"]:
    """What waits for the group: each of its records."""
    return [Member(record, group, index, deadline) for index, record in enumerate(records)]


class Member(Pending):
    """One record of a group."""

    __slots__ = ("_done", "_group", "_index")

    def __init__(self, record: EventRecord, group: Group, index: int, deadline: float) -> None:
        self.record = record
        self.deadline = deadline
        self.sent = False
        self._group = group
        self._index = index
        self._done = False

    def settled(self) -> bool:
        """See `Pending.settled`."""
        return self._done or self._group.future.done()

    def settle(self, outcome: Outcome) -> None:
        """See `Pending.settle`."""
        if self._done:
            return
        self._done = True
        group = self._group
        group.outcomes[self._index] = outcome
        group.missing -= 1
        if not group.missing and not group.future.done():
            group.future.set_result(group.outcomes)
