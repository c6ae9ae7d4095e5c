"""A target whose errors blame no record unless it says so itself.

An engine, a proxy before it or our own code may fail in ways that nobody thought of. Of an error that is unknown, the
kind is that of a server which refuses: it is waited for, or its partition stops with the reason; no record is parked.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from projector.writing.failure import OutsideError
from sinks.target import Document, Gone, Identity, Target, TargetRefusesError


@contextlib.contextmanager
def _blaming_no_record() -> Iterator[None]:
    try:
        yield
    except (OutsideError, MemoryError, TimeoutError):
        raise
    except Exception as error:
        words = f"The target fails in a way that Footfall does not know: {type(error).__name__}"
        raise TargetRefusesError(words) from error


class Guarded:
    """Another target, and nothing but its errors is changed."""

    def __init__(self, target: Target) -> None:
        self._target, self.lanes, self.one_only = target, target.lanes, target.one_only

    async def open(self) -> UUID:
        """As `Target.open`."""
        with _blaming_no_record():
            return await self._target.open()

    async def close(self) -> None:
        """As `Target.close`."""
        with _blaming_no_record():
            await self._target.close()

    async def positions(self) -> Mapping[int, int] | None:
        """As `Target.positions`."""
        with _blaming_no_record():
            return await self._target.positions()

    async def write(self, documents: Sequence[Document], positions: Mapping[int, int]) -> set[Identity]:
        """As `Target.write`."""
        with _blaming_no_record():
            return await self._target.write(documents, positions)

    async def erase(self, gone: Sequence[Gone]) -> None:
        """As `Target.erase`."""
        with _blaming_no_record():
            await self._target.erase(gone)

    async def users(self, tenant_id: str) -> set[str]:
        """As `Target.users`."""
        with _blaming_no_record():
            return await self._target.users(tenant_id)

    async def known_good_fails(self) -> OutsideError | None:
        """As `Target.known_good_fails`."""
        with _blaming_no_record():
            return await self._target.known_good_fails()
