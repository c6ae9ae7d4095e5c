"""A target whose errors blame no record unless it says so itself.

An engine, a proxy before it or our own code may fail in ways that nobody thought of. Of an error that is unknown, the
kind is that of a server which refuses: it is waited for, or its partition stops with the reason; no record is parked.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from projector.writing.failure import OutsideError
from sinks.target import Document, Gone, Identity, Target, TargetAwayError, TargetGoneError, TargetRefusesError
from telemetry.health import DependencyState


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
        self._is_gone = asyncio.Event()
        self._why = TargetGoneError()
        self._trouble = ""  # why it did not take what it was given last

    async def state(self) -> DependencyState:
        """For health: whether it took what it was given last."""
        return DependencyState(ok=not self._trouble, detail=self._trouble)

    async def gone(self) -> TargetGoneError:
        """Waits until the target is found to be another one, and returns that error."""
        await self._is_gone.wait()
        return self._why

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            with _blaming_no_record():
                yield
            self._trouble = ""
        except TargetGoneError as error:
            self._why, self._trouble = error, str(error)
            self._is_gone.set()
            raise
        except (TargetAwayError, TargetRefusesError) as error:
            self._trouble = str(error)
            raise

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
        with self._noting():
            return await self._target.write(documents, positions)

    async def erase(self, gone: Sequence[Gone]) -> None:
        """As `Target.erase`."""
        with self._noting():
            await self._target.erase(gone)

    async def users(self, tenant_id: str) -> set[str]:
        """As `Target.users`."""
        with _blaming_no_record():
            return await self._target.users(tenant_id)

    async def known_good_fails(self) -> OutsideError | None:
        """As `Target.known_good_fails`."""
        with _blaming_no_record():
            return await self._target.known_good_fails()
