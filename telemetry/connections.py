"""Opens connections with retries while a server is away, and closes clients within a time limit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from telemetry.logs import get_logger

Found = TypeVar("Found")

RETRY = 0.5  # seconds between tries
LOG_EVERY = 5.0  # seconds between log lines
ONE_TRY = 15.0  # seconds; a try that hangs for longer is given up and repeated


async def once_there(
    server: str, connect: Callable[[], Awaitable[Found]], away: tuple[type[Exception], ...], within: float
) -> Found:
    """Awaits `connect` until it succeeds, and returns its result.

    The first failure is logged at once, with the seconds that are left; further lines follow every few seconds.

    Args:
        server: The server's name, for the log.
        connect: Awaited for each try.
        away: The errors that mean that the server cannot be reached; any other error is raised at once.
        within: Seconds after which the last of these errors is raised.
    """
    clock = asyncio.get_running_loop().time
    deadline, log_at = clock() + within, clock()
    while True:
        try:
            async with asyncio.timeout(ONE_TRY):
                return await connect()
        except away + (TimeoutError,) as error:  # noqa: RUF005 - type checkers understand this form
            left = deadline - clock()
            if left <= 0:
                raise
            if clock() >= log_at:
                log_at = clock() + LOG_EVERY
                why = (str(error).splitlines() or [""])[0] or type(error).__name__
                get_logger("startup").warning("waits_for_server", server=server, seconds_left=round(left), error=why)
        await asyncio.sleep(min(RETRY, max(0.0, deadline - clock())))


async def ended_within(seconds: float, end: Callable[[], Awaitable[object]]) -> bool:
    """Runs `end`, such as a client's `stop`, for at most `seconds`; returns whether it ended without an error.

    Its errors are ignored. It runs as a separate task: a client whose server is away may hang, or may raise the
    CancelledError of one of its own tasks, which the caller would take for its own cancellation.
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
