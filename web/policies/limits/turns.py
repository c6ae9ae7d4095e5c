"""Turns: while several tenants read from one process at once, each gets its part of the process's time.

A tenant alone is not held up. Once another reads, too, only a few reads are at work at once, and the next turn is that
of the tenant whose reads took least time of late (start-time fair queueing, Goyal et al. 1996). A tenant with nothing
at work goes at once, so who asks little waits for nobody. What takes long, such as an export, loses its turn, and not
its place: of the places, one tenant may hold half.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

from web.policies.decisions import ADMIT, Admit, Decision, NeedsIO
from web.policies.limits.cost import is_paid_by_time
from web.policies.principal import ANONYMOUS, Principal
from web.policies.request_head import RequestHead

AT_ONCE = 4  # reads at work while several tenants read: enough that process and database both have something to do
LONGEST = 0.1  # seconds after which a read has had its turn
REMEMBERED = 1.0  # seconds after its last read in which a tenant still counts as one that reads


class Line:
    """The reads of one tenant."""

    __slots__ = ("at_work", "places", "seen_at", "used", "waiting")

    def __init__(self) -> None:
        self.at_work = 0  # reads that have their turn now
        self.places = 0  # reads that are not ended, their turn over or not
        self.used = 0.0  # seconds of its reads' turns, from where others were when it began
        self.seen_at = 0.0
        self.waiting: deque[asyncio.Future[Turn]] = deque()

    def is_idle(self) -> bool:
        """Whether nothing of it is there."""
        return not self.places and not self.waiting


class Turn:
    """One read that has begun; the fact of its request."""

    __slots__ = ("began", "is_over", "line")

    def __init__(self, line: Line, began: float) -> None:
        self.line, self.began, self.is_over = line, began, False


class Turns:
    """The policy. Needs the fact `Principal`."""

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`places`: reads that the process can do at once."""
        self._most, self._clock = max(1, places // 2), clock
        self._lines: OrderedDict[str, Line] = OrderedDict()  # by tenant; who read last is last
        self._begun: dict[Turn, None] = {}  # the oldest is first
        self._at_work = 0
        self._looking: asyncio.TimerHandle | None = None

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        principal: Principal = head.facts[Principal]
        if principal.subject == ANONYMOUS or not is_paid_by_time(head):
            return ADMIT
        line = self._line_of(principal.tenant_id)
        if not self._may_go(line):
            return NeedsIO(partial(self._wait, line))
        return Admit(self._begin(line), release=self._end)

    def _line_of(self, tenant_id: str) -> Line:
        line = self._lines.get(tenant_id)
        if line is None:
            line = self._lines[tenant_id] = Line()
        if line.is_idle():  # what it did not use before is gone
            line.used = max(line.used, min((one.used for one in self._lines.values() if not one.is_idle()), default=0))
        line.seen_at = self._clock()
        self._lines.move_to_end(tenant_id)
        self._forget_the_oldest(line.seen_at)
        return line

    def _forget_the_oldest(self, now: float) -> None:
        tenant_id, oldest = next(iter(self._lines.items()))
        if not oldest.is_idle():
            self._lines.move_to_end(tenant_id)
        elif now - oldest.seen_at > REMEMBERED:
            del self._lines[tenant_id]

    def _may_go(self, line: Line) -> bool:
        self._end_long_turns()
        if len(self._lines) == 1 or line.is_idle():
            return True
        has_its_part = line.at_work >= max(1, AT_ONCE // len(self._lines))
        is_full = line.places >= self._most or (has_its_part and self._at_work >= AT_ONCE)
        return not (line.waiting or is_full)

    def _begin(self, line: Line) -> Turn:
        turn = Turn(line, self._clock())
        self._begun[turn] = None
        line.at_work += 1
        line.places += 1
        self._at_work += 1
        return turn

    async def _wait(self, line: Line) -> Admit:
        given: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        line.waiting.append(given)
        self._look_again()
        try:
            return Admit(await given, release=self._end)
        except asyncio.CancelledError:  # its client has left
            if given in line.waiting:
                line.waiting.remove(given)
            elif given.done() and not given.cancelled():
                self._give_back(given.result())
            raise

    def _end(self, head: RequestHead) -> None:
        self._give_back(head.facts[Turn])

    def _give_back(self, turn: Turn) -> None:
        del self._begun[turn]
        turn.line.places -= 1
        if not turn.is_over:
            self._end_turn(turn)
        self._next()

    def _end_turn(self, turn: Turn) -> None:
        turn.is_over = True
        turn.line.used += min(self._clock() - turn.began, LONGEST)
        turn.line.at_work -= 1
        self._at_work -= 1

    def _end_long_turns(self) -> None:
        now = self._clock()
        for turn in self._begun:
            if now - turn.began <= LONGEST:
                return
            if not turn.is_over:
                self._end_turn(turn)

    def _look_again(self) -> None:
        """While somebody waits, looks for turns that are over although nothing has ended."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LONGEST, self._look)

    def _look(self) -> None:
        self._looking = None
        self._next()
        if any(line.waiting for line in self._lines.values()):
            self._look_again()

    def _next(self) -> None:
        """Gives turns to those who wait, as long as there are any."""
        self._end_long_turns()
        alone = len(self._lines) == 1
        while alone or self._at_work < AT_ONCE:
            able = [one for one in self._lines.values() if one.waiting and (alone or one.places < self._most)]
            if not able:
                return
            line = min(able, key=lambda one: one.used)
            given = line.waiting.popleft()
            if not given.done():  # else its client has left
                given.set_result(self._begin(line))
