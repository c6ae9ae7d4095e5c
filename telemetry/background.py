"""Work that goes on while something else runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def running_beside(work: Callable[[], Coroutine[None, None, None]], name: str) -> AsyncIterator[None]:
    """Runs `work` while the body runs, then cancels it and waits until it has ended. `name`: of its task."""
    task = asyncio.create_task(work(), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
