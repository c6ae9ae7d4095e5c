"""The log as commands see it: publish a record, learn its position, or learn why not."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from contracts.record import EventRecord


class Position(msgspec.Struct, frozen=True):
    """Where an acknowledged record stands in the log."""

    partition: int
    offset: int


class PublishError(Exception):
    """A record was not acknowledged."""


class PublishFailedError(PublishError):
    """The record is certainly not in the log."""


class PublishUnknownError(PublishError):
    """No answer in time: the record may be in the log or may still land there."""


class LogBusyError(PublishError):
    """Too many records wait already; this one was refused before anything was sent."""


class LogUnavailableError(PublishError):
    """The log has not answered for a while; this record was refused before anything was sent."""


# What became of one record: acknowledged at a position (None: the broker no longer knows where), or not acknowledged.
Outcome = Position | PublishError | None


class Handed(Protocol):
    """A record that a log has taken from a publisher who waits for a call."""

    def withdraw(self) -> None:
        """The publisher has left: it is not called any more, and a record that was not sent never will be."""
        ...


class EventLog(Protocol):
    """Appends events; every implementation passes `tests/conformance/test_event_log.py`."""

    async def publish(self, record: EventRecord) -> Position | None:
        """Returns once the record is acknowledged by all in-sync replicas. Raises PublishError.

        None: it is in the log, but the broker no longer knows where.
        """
        ...

    def has_room(self) -> bool:
        """Whether it would take another record now."""
        ...

    def hand_over(self, record: EventRecord, tell: Callable[[Outcome], None]) -> Handed:
        """As `publish`, without a task that waits: `tell` is called once with the outcome, and must not raise.

        Raises LogBusyError or LogUnavailableError when it does not take the record; then `tell` is never called.
        """
        ...

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome]:
        """The outcome of each record, in their order; those of one key keep it in the log.

        Raises LogBusyError or LogUnavailableError when it takes none of them.
        """
        ...

    async def connected(self) -> bool:
        """Whether the log answers now."""
        ...
