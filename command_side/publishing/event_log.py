"""The log as commands see it: publish a record, and learn what became of it."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from contracts.record import EventRecord


class Acknowledged(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The record is in the log, and this is where."""

    partition: int
    offset: int


class AcknowledgedSomewhere(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The record is in the log, but the broker no longer knows where."""


class Failed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The record is certainly not in the log."""


class TooLarge(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The record is certainly not in the log, and never will be: the topic takes none of this size."""


class Unknown(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Nobody knows: the record may be in the log or may still land there."""


class Busy(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Too many records wait already; this one was refused before anything was sent."""


class Away(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The log has not answered for a while; this record was refused before anything was sent."""


class KeysAway(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The record is certainly not in the log: it must be sealed, and its user's key cannot be had now."""


Acknowledgement = Acknowledged | AcknowledgedSomewhere
NotTaken = Busy | Away
NotAcknowledged = Failed | TooLarge | Unknown | KeysAway | NotTaken

# What became of one record: a closed type. None of them is spelled None, and "no answer yet" is none of them.
Outcome = Acknowledgement | NotAcknowledged

ACKNOWLEDGED = (Acknowledged, AcknowledgedSomewhere)
NOT_TAKEN = (Busy, Away)

SOMEWHERE, FAILED, UNKNOWN, BUSY, AWAY = AcknowledgedSomewhere(), Failed(), Unknown(), Busy(), Away()
TOO_LARGE, KEYS_AWAY = TooLarge(), KeysAway()


class Submitted(msgspec.Struct, frozen=True):
    """A valid command's record, and what became of it."""

    record: EventRecord
    outcome: Outcome


class PendingPublish(Protocol):
    """A record that a log has taken from a publisher who waits for a call."""

    def withdraw(self) -> None:
        """The publisher has left: it is not called any more, and a record that was not sent never will be."""
        ...


class EventLog(Protocol):
    """Appends events; every implementation passes `tests/conformance/test_event_log.py`."""

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        """Takes a record without waiting. An acknowledgement means that all in-sync replicas have it.

        `on_result` is called once with the outcome, and must not raise. When the record is not taken, it is never
        called.
        """
        ...

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """The outcome of each record, in their order; those of one key keep it in the log. Or none was taken."""
        ...

    async def partition_count(self) -> int:
        """How many partitions the log has now."""
        ...

    async def connected(self) -> bool:
        """Whether the log answers now."""
        ...
