"""Ends a process whose event loop is blocked. A thread does it, because no task of a blocked loop could.

The thread checks whether a timer on the loop still fires. It measures time only in its own ticks. So a process that was
paused as a whole (SIGSTOP, a suspended machine) does not look blocked when it resumes.
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
SILENT_TICKS = 6  # ticks without the timer before the process ends; a tick is a quarter of the interval
NOTE_TIMEOUT = 2.0  # seconds for a note in the database, which may be what is stuck
LOG_TIMEOUT = 1.0  # seconds for the last log line; the process that reads our log may be stuck too


class LoopGuard:
    """Watches the event loop that is running when `guarding` is entered.

    Args:
        interval: seconds; a blocked loop is found within two intervals.
        end: ends the process with an exit code.
    """

    def __init__(self, interval: float, end: Callable[[int], object] = os._exit) -> None:
        self._tick = interval / 4
        self._end = end
        self._beats = 0
        self._over = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last: threading.Timer | None = None
        self.note: Callable[[str], None] | None = None  # called once, with the reason of the end; it may hang

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Watches the loop while the body runs."""
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
        """Ends the process after `seconds`, unless the guarded body ends before that."""
        self._last = threading.Timer(seconds, self._end_process, (reason, []))
        self._last.daemon = True
        self._last.start()

    def note_end(self, reason: str) -> None:
        """Calls `note`, for the first reason only, and waits for it as long as for the last log line."""
        note, self.note = self.note, None
        if note is not None:
            writer = threading.Thread(target=note, args=(reason,), daemon=True)
            writer.start()
            writer.join(NOTE_TIMEOUT)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        self._timer = loop.call_later(self._tick / 2, self._beat, loop)

    def _watch(self, loop_thread: int) -> None:
        seen, silent = self._beats, 0
        while not self._over.wait(self._tick):
            silent = silent + 1 if self._beats == seen else 0
            seen = self._beats
            if silent >= SILENT_TICKS:
                # Despite its underscore, this function is documented for exactly this use.
                frame = sys._current_frames().get(loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                self._end_process("the event loop is blocked", traceback.format_stack(frame) if frame else [])
                return

    def _end_process(self, reason: str, where: list[str]) -> None:
        line = json.dumps({"event": "projector_stuck", "level": "critical", "reason": reason, "where": where})
        # Do not use the logger here: the loop may be blocked on its lock.
        writer = threading.Thread(target=os.write, args=(STDERR, f"{line}\n".encode()), daemon=True)
        writer.start()
        writer.join(LOG_TIMEOUT)
        self.note_end(reason)
        self._end(EXIT_STUCK)
