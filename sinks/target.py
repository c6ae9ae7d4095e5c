"""What a sink asks of the engine that it writes to, and the errors that an engine answers with.

A target keeps each event once by its tenant and id, whatever is written twice: after a kill, a lost answer or a
rebalance the same events come again (docs/sinks.md).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid5

import msgspec

from projector.writing.failure import Failure, OutsideError


class Document(msgspec.Struct, frozen=True):
    """One event as a target stores it. Times are UTC."""

    tenant_id: str
    event_id: UUID
    user_id: str
    event_type: str
    occurred_at: datetime
    recorded_at: datetime
    payload: bytes  # JSON, an object
    partition: int
    offset: int

    @property
    def identity(self) -> tuple[str, UUID]:
        """By which a target keeps it once."""
        return self.tenant_id, self.event_id


Identity = tuple[str, UUID]


class Gone(msgspec.Struct, frozen=True):
    """Users to forget: what they did before an offset of a partition. `users`: every name that they may have."""

    tenant_id: str
    users: tuple[str, ...]
    partition: int
    before: int


def copy_of(target: UUID, tenants: frozenset[str]) -> UUID:
    """Returns what names a target together with the tenants that it gets: the target itself if it gets all.

    A sink that gets another tenant is another copy, and begins at the beginning of the log: otherwise it would lack
    what that tenant did before.
    """
    return uuid5(target, ",".join(sorted(tenants))) if tenants else target


class TargetAwayError(OutsideError):
    """The target does not answer, or not now: the same batch is tried again, for ever."""


class TargetRefusesError(OutsideError):
    """The target refuses everything until somebody repairs it: rights, an index, a file."""

    kind = Failure.SERVER


class TargetIsOlderError(OutsideError):
    """The target has less than this process wrote: it was restored from a backup, or made anew, meanwhile."""


class TargetGoneError(OutsideError):
    """What answers is not what was opened: it was deleted, made anew, or is elsewhere. The process ends."""

    kind = Failure.SERVER


class TooMuchError(OutsideError):
    """The batch is more than the target takes at once."""

    kind = Failure.TOO_MUCH


class DocumentRefusedError(OutsideError):
    """The target refuses a document and takes others. The text names the target's error, and nothing of the event."""

    kind = Failure.SUSPECT


class Target(Protocol):
    """An engine that events are written to. Errors are those of this module."""

    lanes: int  # writes at the same time, at most
    one_only: bool  # whether it takes one process at a time

    async def open(self) -> UUID:
        """Connects, makes what is missing, and returns what names this target until somebody makes it anew."""
        ...

    async def close(self) -> None:
        """Ends the connection."""
        ...

    async def positions(self) -> Mapping[int, int] | None:
        """Returns the next offset of each partition as the data has it; None if the target keeps none.

        After TargetIsOlderError every other call fails with it until this one tells what there is.
        """
        ...

    async def write(self, documents: Sequence[Document], positions: Mapping[int, int]) -> set[Identity]:
        """Stores the documents that are not stored yet, and the positions behind them.

        Returns:
            Those that were stored before.

        Raises:
            DocumentRefusedError: One of them is refused; others may be stored.
            TargetGoneError: The target is not the one that `open` found.
        """
        ...

    async def erase(self, gone: Sequence[Gone]) -> None:
        """Deletes what users did before their markers. It must find what was written a moment ago, too."""
        ...

    async def users(self, tenant_id: str) -> set[str]:
        """Returns the names of all users of a tenant."""
        ...

    async def known_good_fails(self) -> OutsideError | None:
        """Returns why a document that is stored could not be written now; None: it could.

        Raises:
            OutsideError: There is none to try with, or the target does not answer.
        """
        ...
