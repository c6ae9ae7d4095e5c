"""Work that goes on while something else runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from telemetry.logs import get_logger

AGAIN = 2.0  # seconds until what could not begin is begun again
LEAVES_WITHIN = 5.0  # seconds to leave what was entered


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


@asynccontextmanager
async def entered_beside(enter: Callable[[], AbstractAsyncContextManager[None]], name: str) -> AsyncIterator[None]:
    """Runs the body at once, and enters a context beside it as soon as that can be entered; then leaves both.

    `enter`: makes the context anew for each try. `name`: of the context, in the log.
    """
    entered, ends = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        last = ""
        while not ends.is_set():
            try:
                async with enter():
                    entered.set()
                    await ends.wait()
            except Exception as error:  # noqa: BLE001 - whatever it is, the body goes on without, and says so
                entered.clear()
                if last != (last := type(error).__name__):
                    get_logger("startup").warning("goes_on_without", name=name, error=last)
                await asyncio.sleep(AGAIN)

    task = asyncio.create_task(held(), name=name)
    try:
        yield
    finally:
        ends.set()
        if entered.is_set():
            await asyncio.wait([task], timeout=LEAVES_WITHIN)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
