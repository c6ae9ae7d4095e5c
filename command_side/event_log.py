"""The log as commands see it: publish a record, learn its position, or learn why not."""

from collections.abc import Sequence
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


class EventLog(Protocol):
    """Appends events; every implementation passes `tests/conformance/test_event_log.py`."""

    async def publish(self, record: EventRecord) -> Position | None:
        """Returns once the record is acknowledged by all in-sync replicas. Raises PublishError.

        None: it is in the log, but the broker no longer knows where.
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
