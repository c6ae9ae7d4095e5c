"""Which generations this process projects: it watches the register, and runs one loop for each that wants rows."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from projector.consuming.batch import Position
from projector.writing.failure import DATABASE_ERRORS, named
from read_model.generations.register import PROJECTED, Generation, list_generations
from telemetry.logs import get_logger

WATCH_INTERVAL = 1.0  # seconds between looks at the register
WATCH_INTERVAL_HELD = 0.1  # seconds, while some generation is held: a comparison waits for it
REGISTER_TIMEOUT = 10.0  # seconds for one look; whatever hangs longer is tried again
BACKGROUND_RECORDS = 2_000  # in one fetch, at most, of a generation that does not serve
COURTESY = 1.0  # how long such a generation rests after each batch, as a part of the time that the batch took
RESTART_DELAY = 5.0  # seconds before a loop that failed is begun again, unless it is the active generation's


class GenerationLimits:
    """What operators want of one generation now. The watch replaces `current`; lanes read it before each fetch."""

    def __init__(self, current: Generation) -> None:
        self.name = current.name
        self.current = current
        self.changed: Callable[[], None] = lambda: None  # the loop that obeys sets it: something to look at

    def replace(self, current: Generation) -> None:
        """Takes new limits."""
        if current != self.current:
            self.current = current
            self.changed()

    def serves(self) -> bool:
        """Whether queries see this generation. One that nobody waits for works in small steps, on one lane, and rests
        as long as it works: what serves shares its processors, its PostgreSQL and its event loop.
        """
        return self.current.state == "active"

    def records_at_once(self, usual: int) -> int:
        """Records in one fetch at most."""
        return usual if self.serves() else min(usual, BACKGROUND_RECORDS)

    def lanes(self, usual: int) -> int:
        """How many lanes share the partitions."""
        return usual if self.serves() else 1

    def rest(self, spent: float) -> float:
        """Seconds to leave to others after a batch that took `spent`."""
        return 0 if self.serves() else spent * COURTESY

    def rate(self, held: int, partitions: Callable[[], int]) -> float | None:
        """What whoever holds so many of the partitions may take, records a second; None: as many as it can."""
        whole = self.current.max_rate
        return None if whole is None else whole * held / max(1, partitions())

    def allow(self, position: Position | None) -> bool:
        """Whether a partition that is held at this position may go on."""
        if position is None:
            return False
        limit = self.limit(position.partition)
        return limit is None or position.next_offset < limit

    def limit(self, partition: int) -> int | None:
        """The offset beyond which the partition must not go now."""
        return self.current.holds.get(partition)


Loop = Callable[
    [GenerationLimits, asyncio.Event], Coroutine[Any, Any, None]
]  # projects one generation until the event is set


class Running:
    """A loop at work."""

    def __init__(self, limits: GenerationLimits, loop: Loop) -> None:
        self.limits = limits
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(loop(limits, self.stop))


class LoopCancelledError(Exception):
    """A loop was cancelled, and not by us: some client let the CancelledError of its own task out."""


def _what_ended(task: "asyncio.Task[None]") -> BaseException | None:
    return LoopCancelledError("a loop was cancelled from within") if task.cancelled() else task.exception()


class Generations:
    """Runs `loop` for each generation of the register that is to be projected.

    A failure of the active generation's loop ends the process, for its supervisor to begin anew; any other is logged
    and tried again, for it must not disturb what serves.
    """

    def __init__(self, pool: Any, loop: Loop) -> None:
        self._pool = pool
        self._loop = loop
        self._running: dict[str, Running] = {}
        self._not_before: dict[str, float] = {}  # generation to the event loop's time of its next try
        self._log = get_logger("projector")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Raises what the active generation's loop raises, and when the first look fails."""
        known = await self._look()
        try:
            while not stop.is_set():
                self._follow(known)
                await self._wait(stop, held=any(generation.holds for generation in known))
                self._bury()
                with contextlib.suppress(*DATABASE_ERRORS):
                    known = await self._look()
            await self._end()
        finally:
            await self._abandon()

    async def _look(self) -> list[Generation]:
        # The bound of `acquire` is that of the release too, which a connection gone silent would hold up for ever.
        async with asyncio.timeout(REGISTER_TIMEOUT), self._pool.acquire(timeout=REGISTER_TIMEOUT) as connection:
            return await list_generations(connection)

    def _follow(self, known: list[Generation]) -> None:
        """Starts, informs and stops loops, so that what runs is what the register wants."""
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
                self._running[name] = Running(GenerationLimits(generation), self._loop)

    async def _wait(self, stop: asyncio.Event, *, held: bool) -> None:
        """Until the next look is due, or a loop ended, or `stop`."""
        stopping = asyncio.create_task(stop.wait())
        interval = WATCH_INTERVAL_HELD if held else WATCH_INTERVAL
        tasks = [running.task for running in self._running.values()]
        try:
            await asyncio.wait([stopping, *tasks], timeout=interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    def _bury(self) -> None:
        """Takes note of the loops that ended. Raises what ended the active generation's."""
        for name, running in [*self._running.items()]:
            if not running.task.done():
                continue
            del self._running[name]
            error = _what_ended(running.task)
            if error is None:
                continue
            if running.limits.current.state == "active":
                raise error
            self._log.error("generation_failed", generation=name, error=named(error))
            self._not_before[name] = asyncio.get_running_loop().time() + RESTART_DELAY

    async def _end(self) -> None:
        """Lets every loop commit what it has in hand."""
        for running in self._running.values():
            running.stop.set()
        if self._running:
            await asyncio.wait([running.task for running in self._running.values()])
        self._bury()

    async def _abandon(self) -> None:
        """On the way out with an error: nothing is left running."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
