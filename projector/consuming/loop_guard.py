"""Ends a process whose event loop no longer turns: nothing on the loop could.

A thread looks whether a timer on the loop went off. Only its own ticks count as time, so that a process which was
stopped as a whole (SIGSTOP, a paused machine) is not taken for a blocked one when it wakes.
"""

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STDERR = 2  # the file descriptor
EXIT_STUCK = 70  # sysexits.h: EX_SOFTWARE
TICKS_OF_PATIENCE = 6  # of a quarter of an interval each: well within two intervals
LAST_WORDS = 1.0  # seconds; whoever reads our log may be stuck too


class LoopGuard:
    """Watches the loop that is running when `guarding` is entered. `interval` in seconds; `end` ends the process."""

    def __init__(self, interval: float, end: Callable[[int], object] = os._exit) -> None:
        self._tick = interval / 4
        self._end = end
        self._beats = 0
        self._over = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last: threading.Timer | None = None

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Guards while the body runs."""
        self._beat(asyncio.get_running_loop())
        threading.Thread(target=self._watch, args=(threading.get_ident(),), name="loop-guard", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()
            assert self._timer is not None
            self._timer.cancel()
            if self._last is not None:
                self._last.cancel()

    def end_within(self, seconds: float, reason: str) -> None:
        """Ends the process after so many seconds, should the body guarded not have ended by then."""
        self._last = threading.Timer(seconds, self._give_up, (reason, []))
        self._last.daemon = True
        self._last.start()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        self._timer = loop.call_later(self._tick / 2, self._beat, loop)

    def _watch(self, loop_thread: int) -> None:
        seen, silent = self._beats, 0
        while not self._over.wait(self._tick):
            silent = silent + 1 if self._beats == seen else 0
            seen = self._beats
            if silent >= TICKS_OF_PATIENCE:
                # The underscore warns of surprises; this is what it is documented for.
                frame = sys._current_frames().get(loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                self._give_up("the event loop is blocked", traceback.format_stack(frame) if frame else [])
                return

    def _give_up(self, reason: str, where: list[str]) -> None:
        line = json.dumps({"event": "projector_stuck", "level": "critical", "reason": reason, "where": where})
        # Not the logger: its lock may be what the loop waits for.
        words = threading.Thread(target=os.write, args=(STDERR, f"{line}\n".encode()), daemon=True)
        words.start()
        words.join(LAST_WORDS)
        self._end(EXIT_STUCK)
