"""How a process's connections begin and end: it waits a while for a server that is away, and for no client for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from telemetry.logs import get_logger

Found = TypeVar("Found")

RETRY = 0.5  # seconds between tries
SAY_EVERY = 5.0  # seconds between lines
ONE_TRY = 15.0  # seconds; what hangs for longer is tried anew


async def once_there(
    server: str, connect: Callable[[], Awaitable[Found]], away: tuple[type[Exception], ...], within: float
) -> Found:
    """What `connect` returns, tried again for `within` seconds while it raises one of `away`; then it raises that.

    The first failure is logged at once, with how long this will go on, and a line follows every few seconds.
    """
    clock = asyncio.get_running_loop().time
    deadline, say_at = clock() + within, clock()
    while True:
        try:
            async with asyncio.timeout(ONE_TRY):
                return await connect()
        except away + (TimeoutError,) as error:  # noqa: RUF005 - a type checker sees that it is one tuple
            left = deadline - clock()
            if left <= 0:
                raise
            if clock() >= say_at:
                say_at = clock() + SAY_EVERY
                why = (str(error).splitlines() or [""])[0] or type(error).__name__
                get_logger("startup").warning(f"waiting for {server}", seconds_left=round(left), error=why)
        await asyncio.sleep(min(RETRY, max(0.0, deadline - clock())))


async def ended_within(seconds: float, end: Callable[[], Awaitable[object]]) -> bool:
    """Whether `end`, such as a client's `stop`, came to its end in time. What it raises concerns nobody any more.

    It runs as a task of its own: a client whose server is away may hang, or let out the CancelledError of a task of its
    own, which would pass for our own cancellation.
    """
    task = asyncio.ensure_future(_awaited(end))
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    return task.done() and not task.cancelled() and task.exception() is None


async def _awaited(end: Callable[[], Awaitable[object]]) -> None:
    await end()
