"""Limits repeated log messages to one in a few seconds, which says how many were left out."""

import logging
import time
from collections.abc import Callable

REPEAT_AFTER = 5.0  # seconds between two lines with the same message

Key = tuple[str, int, str]


class LogThrottle(logging.Filter):
    """Passes each message of these loggers once in `seconds`; the next one that passes says how many were left out."""

    def __init__(
        self,
        *loggers: str,
        seconds: float = REPEAT_AFTER,
        up_to: int = logging.CRITICAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`up_to`: the level above which every message passes."""
        super().__init__()
        self._loggers, self._seconds, self._up_to, self._clock = loggers, seconds, up_to, clock
        self._logged: dict[Key, tuple[float, int]] = {}  # when it was last logged, and how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to log the record. Two records with the same format string are the same message."""
        if record.levelno > self._up_to:
            return True
        if not any(record.name == name or record.name.startswith(f"{name}.") for name in self._loggers):
            return True
        key = (record.name, record.levelno, str(record.msg)[:80])
        now = self._clock()
        logged_at, left_out = self._logged.get(key, (-self._seconds, 0))
        if now - logged_at < self._seconds:
            self._logged[key] = (logged_at, left_out + 1)
            return False
        self._logged[key] = (now, 0)
        if left_out:
            record.msg = f"{record.msg} (and {left_out} times more in the last {now - logged_at:.0f} s)"
        return True
