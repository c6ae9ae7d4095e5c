"""Looks at everything every two seconds while somebody has the console open, and seldom while nobody does.

Examining takes longer the more is wrong: it is done beside the looks, so that these stay what is seen now.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import msgspec

from console.looking.scrape import ProcessSeen, Scraper
from contracts.types import Catalogue
from operations.doctor.examine import AWAY, examine, told
from operations.doctor.findings import ORDER, Finding, Verdict, worst
from operations.status.observer import Observer, observing
from operations.status.report import GenerationStatus, PartitionStatus, SinkStatus, Status
from projector.sealed.keys import Keys
from projector.settings import ProjectorSettings
from telemetry.background import running_beside
from telemetry.logs import get_logger

LOOK = 2.0  # seconds between looks while somebody watches
EXAMINE = 6.0  # seconds between examinations while somebody watches
IDLE = 10.0  # seconds between looks, and
IDLE_EXAMINE = 60.0  # between examinations, while nobody does
WATCHED_FOR = 20.0  # seconds that one request counts as somebody who watches
PATIENCE = 10.0  # seconds for one look
EXAMINING = 90.0  # seconds for one examination, each part of which has its own patience


class Seen(msgspec.Struct, frozen=True):
    """What was seen at one moment. `number` counts the looks: pages are rendered once for each.

    `status`: None while a server is away. `findings`: the worst first. `examined`: of `findings`.
    """

    number: int
    at: datetime
    status: Status | None
    processes: Sequence[ProcessSeen]
    findings: Sequence[Finding]
    examined: datetime | None = None

    def verdict(self) -> Verdict:
        """The worst verdict; `unknown` before the first examination."""
        return worst(list(self.findings))

    def lag(self) -> int:
        """Events that the active generation is behind."""
        return sum(each.lag for each in self.partitions())

    def lag_seconds(self) -> float | None:
        """The age of the oldest event that is not projected; None: a partition has one of unknown age."""
        ages = [each.lag_seconds for each in self.partitions() if each.lag]
        known = [age for age in ages if age is not None]
        return max(known, default=0.0) if len(known) == len(ages) else None

    def parked(self) -> int:
        """Dead letters that wait."""
        letters = self.status.dead_letters if self.status else []
        return sum(each.count for each in letters if each.state == "parked")

    def active(self) -> GenerationStatus | None:
        """The generation that queries see; None while a server is away."""
        found = self.status.generations if self.status else []
        return next((generation for generation in found if generation.state == "active"), None)

    def partitions(self) -> Sequence[PartitionStatus]:
        """Those of the active generation."""
        found = self.active()
        return found.partitions if found else ()


class Pace(msgspec.Struct, frozen=True):
    """How fast one partition is read, and how fast it grows, in events a second."""

    projected: float
    arrived: float

    def left(self, lag: int) -> float | None:
        """Seconds until nothing is left; None: it does not catch up at this pace."""
        gain = self.projected - self.arrived
        return 0.0 if not lag else lag / gain if gain > 0 else None


# Makes what reaches the key store, for one piece of work; None: there is no key store.
MakeKeys = Callable[[], Keys | None]


def no_keys() -> Keys | None:
    """Where there is no key store."""
    return None


NOTHING_YET = Seen(0, datetime.now(UTC), None, (), ())


class Watch:
    """The one who looks. `seen` is what it saw last."""

    def __init__(
        self, settings: ProjectorSettings, catalogue: Catalogue | None, scraper: Scraper, keys: MakeKeys = no_keys
    ) -> None:
        self._settings, self._catalogue, self._scraper, self._keys = settings, catalogue, scraper, keys
        self._viewed = -WATCHED_FOR
        self._wake, self._suspicious = asyncio.Event(), asyncio.Event()
        self._connected: AsyncExitStack | None = None
        self._observer: Observer | None = None
        self._examined: tuple[datetime, list[Finding]] | None = None
        self._blind: list[Finding] = []  # why the last look failed
        self.seen = NOTHING_YET
        self.paces: dict[tuple[str, int], Pace] = {}  # by generation and partition

    def viewed(self) -> Seen:
        """What was seen last; from now on somebody watches."""
        if not self._is_watched():
            self._wake.set()
            self._suspicious.set()
        self._viewed = time.monotonic()
        return self.seen

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks during the body."""
        try:
            async with running_beside(self._run, "watch"), running_beside(self._examining, "examination"):
                yield
        finally:
            await self._disconnect()
            await self._scraper.close()

    async def look(self) -> Seen:
        """Looks once, now, and shows what was examined last."""
        processes, status = await asyncio.gather(self._scraper.look(), self._status())
        if problems_of(status) != problems_of(self.seen.status):
            self._suspicious.set()
        self.paces = paces_between(self.seen, status, datetime.now(UTC), self.paces)
        self._blind = []
        self.seen = self._shown(datetime.now(UTC), status, processes)
        return self.seen

    async def examine(self) -> None:
        """Examines once, now. It always ends: whatever cannot be looked at is a finding."""
        try:
            async with asyncio.timeout(EXAMINING):
                found = await examine(self._settings, self._catalogue, self._keys())
        except Exception as error:  # noqa: BLE001 - whoever looks goes on looking, and says what is missing
            get_logger("console").warning("examination_failed", error=type(error).__name__)
            found = [unfinished("examination", error)]
        self._examined = datetime.now(UTC), found
        self.seen = self._shown(self.seen.at, self.seen.status, self.seen.processes)

    def _shown(self, at: datetime, status: Status | None, processes: Sequence[ProcessSeen]) -> Seen:
        examined_at, examined = self._examined or (None, [])
        findings = sorted([*self._blind, *absent(processes), *examined], key=lambda found: -ORDER.index(found.verdict))
        return Seen(self.seen.number + 1, at, status, processes, findings, examined_at)

    def _is_watched(self) -> bool:
        return time.monotonic() - self._viewed < WATCHED_FOR

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(3 * PATIENCE):
                    await self.look()
            except Exception as error:  # noqa: BLE001 - whoever looks goes on looking
                get_logger("console").warning("look_failed", error=type(error).__name__)
                self._blind = [unfinished("look", error)]
                self.seen = self._shown(self.seen.at, None, self.seen.processes)
            pause = (LOOK if self._is_watched() else IDLE) - (time.monotonic() - began)
            await waited(self._wake, max(0.2, pause))

    async def _examining(self) -> None:
        while True:
            await self.examine()
            await waited(self._suspicious, EXAMINE if self._is_watched() else IDLE_EXAMINE)

    async def _status(self) -> Status | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await (await self._observing()).status()
        except AWAY as error:
            get_logger("console").debug("status_unknown", error=told(error))
            await self._disconnect()
            return None

    async def _observing(self) -> Observer:
        if self._observer is None:
            self._connected = AsyncExitStack()
            self._observer = await self._connected.enter_async_context(observing(self._settings, self._catalogue))
        return self._observer

    async def _disconnect(self) -> None:
        connected, self._connected, self._observer = self._connected, None, None
        if connected is not None:
            with contextlib.suppress(*AWAY):
                async with asyncio.timeout(2):
                    await connected.aclose()


async def waited(woken: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until somebody wakes it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()
    woken.clear()


def problems_of(status: Status | None) -> list[str]:
    """What a look found wrong."""
    return status.problems if status else ["away"]


def unfinished(what: str, error: BaseException) -> Finding:
    """Nobody knows what would have been seen: what was seen before is not how it is now."""
    says = f"The last {what} did not end: {told(error)}. Nothing is known of what it looks at."
    return Finding(what, "unknown", says, "`footfall doctor` looks at the same, and says what it waits for.")


def absent(processes: Sequence[ProcessSeen]) -> list[Finding]:
    """A finding for each process that does not answer."""
    remedy = "Look at its log, and start it again. If it moved, correct CONSOLE_WATCH_URLS."
    return [
        Finding("processes", "problem", f"The process at {each.url} is not there: {each.problem}.", remedy)
        for each in processes
        if each.problem
    ]


def paces_between(
    before: Seen, now: Status | None, at: datetime, known: dict[tuple[str, int], Pace]
) -> dict[tuple[str, int], Pace]:
    """How fast each partition was read and grew between two looks, smoothed over some of them."""
    if now is None or before.status is None:
        return {}
    seconds = max(0.5, (at - before.at).total_seconds())
    ones: list[GenerationStatus | SinkStatus] = [*before.status.generations, *before.status.sinks]
    stood = {(one.name, each.partition): each for one in ones for each in one.partitions}
    found = {}
    seen: list[GenerationStatus | SinkStatus] = [*now.generations, *now.sinks]
    for one in seen:
        for each in one.partitions:
            place = one.name, each.partition
            was = stood.get(place, each)
            pace = Pace(
                max(0, (each.checkpoint or 0) - (was.checkpoint or 0)) / seconds,
                max(0, each.end_offset - was.end_offset) / seconds,
            )
            last = known.get(place, pace)
            found[place] = Pace((pace.projected + last.projected) / 2, (pace.arrived + last.arrived) / 2)
    return found


def time_left(
    partitions: Sequence[PartitionStatus], generation: str, paces: Mapping[tuple[str, int], Pace]
) -> float | None:
    """Seconds until the slowest of these partitions has caught up: the others do not make it faster. None: never."""
    still = Pace(0.0, 0.0)
    lefts = [paces.get((generation, each.partition), still).left(each.lag) for each in partitions]
    known = [left for left in lefts if left is not None]
    return max(known, default=0.0) if len(known) == len(lefts) else None
