"""Watches the register of generations, and runs one loop for each generation that is to be projected."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from projector.consuming.batch import OwnedPosition
from projector.writing.failure import DATABASE_ERRORS, describe_error
from read_model.generations.register import PROJECTED, Generation, list_generations
from telemetry.logs import get_logger

WATCH_INTERVAL = 1.0  # seconds between two reads of the register
WATCH_INTERVAL_HELD = 0.1  # seconds, while an operator holds a generation: a comparison waits for it
REGISTER_TIMEOUT = 10.0  # seconds to read the register; after that the read is tried again
BACKGROUND_RECORDS = 2_000  # records at most in one fetch of a generation that is not active
REST_FACTOR = 1.0  # times the duration of a batch; a generation that is not active rests so long after each batch
RESTART_DELAY = 5.0  # seconds before a failed loop is restarted; the active generation's ends the process instead


class GenerationLimits:
    """The limits that operators set for one generation.

    The register watch replaces `current`. Lanes read the limits before each fetch.
    """

    def __init__(self, current: Generation) -> None:
        self.name = current.name
        self.current = current
        self.changed: Callable[[], None] = lambda: None  # called when the limits change; the generation's loop sets it

    def replace(self, current: Generation) -> None:
        """Replaces the limits, and calls `changed` if they differ."""
        if current != self.current:
            self.current = current
            self.changed()

    def is_active(self) -> bool:
        """Returns whether queries see this generation.

        A generation that is not active fetches fewer records at once, uses one lane, and rests as long as it works. It
        shares processors, PostgreSQL and the event loop with the active generation.
        """
        return self.current.state == "active"

    def records_at_once(self, usual: int) -> int:
        """Returns the maximum number of records in one fetch; `usual` is the active generation's."""
        return usual if self.is_active() else min(usual, BACKGROUND_RECORDS)

    def lanes(self, usual: int) -> int:
        """Returns the number of lanes that share the partitions; `usual` is the active generation's."""
        return usual if self.is_active() else 1

    def rest(self, spent: float) -> float:
        """Returns how many seconds to rest after a batch that took `spent` seconds."""
        return 0 if self.is_active() else spent * REST_FACTOR

    def rate(self, held: int, partitions: Callable[[], int]) -> float | None:
        """Returns this projector's share of the generation's maximum rate, in records a second; None: no limit.

        Args:
            held: the number of partitions that this projector holds.
            partitions: returns the number of partitions of the topic.
        """
        whole = self.current.max_rate
        return None if whole is None else whole * held / max(1, partitions())

    def may_continue(self, position: OwnedPosition | None) -> bool:
        """Returns whether a partition may continue from this position; False if it is not held (None)."""
        if position is None:
            return False
        limit = self.limit(position.partition)
        return limit is None or position.next_offset < limit

    def limit(self, partition: int) -> int | None:
        """Returns the offset at which an operator holds the partition; None: it is not held."""
        return self.current.holds.get(partition)


# Projects one generation until the event is set.
Loop = Callable[[GenerationLimits, asyncio.Event], Coroutine[Any, Any, None]]


class RunningLoop:
    """A running loop: its limits, its stop event and its task."""

    def __init__(self, limits: GenerationLimits, loop: Loop) -> None:
        self.limits = limits
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(loop(limits, self.stop))


class LoopCancelledError(Exception):
    """A loop ended with a CancelledError that is not ours: some client library leaked it from a task of its own."""


def _error_of(task: "asyncio.Task[None]") -> BaseException | None:
    return LoopCancelledError("a loop was cancelled from within") if task.cancelled() else task.exception()


class Generations:
    """Runs `loop` for each generation of the register that is to be projected.

    A failure of the active generation's loop ends the process, so that its supervisor restarts it. The failure of any
    other loop is logged, and the loop is restarted: it must not disturb the active generation.
    """

    def __init__(self, pool: Any, loop: Loop) -> None:
        self._pool = pool
        self._loop = loop
        self._running: dict[str, RunningLoop] = {}
        self._not_before: dict[str, float] = {}  # by generation: the event loop's time of the next restart
        self._log = get_logger("projector")

    async def run(self, stop: asyncio.Event) -> None:
        """Runs the loops until `stop` is set.

        Raises:
            Exception: the error of the active generation's loop, or of the first read of the register. Later reads that
                fail are tried again.
        """
        known = await self._read_register()
        try:
            while not stop.is_set():
                self._match_register(known)
                await self._wait(stop, held=any(generation.holds for generation in known))
                self._remove_ended()
                with contextlib.suppress(*DATABASE_ERRORS):
                    known = await self._read_register()
            await self._stop_all()
        finally:
            await self._cancel_all()

    async def _read_register(self) -> list[Generation]:
        async with asyncio.timeout(REGISTER_TIMEOUT), self._pool.acquire(timeout=REGISTER_TIMEOUT) as connection:
            return await list_generations(connection)

    def _match_register(self, known: list[Generation]) -> None:
        """Starts, updates and stops loops, so that the running loops match the register."""
        wanted = {generation.name: generation for generation in known if generation.state in PROJECTED}
        now = asyncio.get_running_loop().time()
        for name, running in self._running.items():
            if name in wanted:
                running.limits.replace(wanted[name])
            elif not running.stop.is_set():
                self._log.info("generation_left", generation=name)
                running.stop.set()
        for name, generation in wanted.items():
            if name not in self._running and now >= self._not_before.get(name, now):
                self._log.info("generation_joined", generation=name, state=generation.state)
                self._running[name] = RunningLoop(GenerationLimits(generation), self._loop)

    async def _wait(self, stop: asyncio.Event, *, held: bool) -> None:
        """Waits until the next read of the register is due, a loop has ended, or `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        interval = WATCH_INTERVAL_HELD if held else WATCH_INTERVAL
        tasks = [running.task for running in self._running.values()]
        try:
            await asyncio.wait([stopping, *tasks], timeout=interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    def _remove_ended(self) -> None:
        """Removes the loops that have ended. Raises the error of the active generation's loop."""
        for name, running in [*self._running.items()]:
            if not running.task.done():
                continue
            del self._running[name]
            error = _error_of(running.task)
            if error is None:
                continue
            if running.limits.current.state == "active":
                raise error
            self._log.error("generation_failed", generation=name, error=describe_error(error))
            self._not_before[name] = asyncio.get_running_loop().time() + RESTART_DELAY

    async def _stop_all(self) -> None:
        """Stops every loop and waits until each has committed the batches in progress."""
        for running in self._running.values():
            running.stop.set()
        if self._running:
            await asyncio.wait([running.task for running in self._running.values()])
        self._remove_ended()

    async def _cancel_all(self) -> None:
        """Cancels the loops that still run, when `run` ends with an error."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
