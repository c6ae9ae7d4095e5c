"""A log that says the same over and over says it once in a while, and how often it was."""

import logging
import time
from collections.abc import Callable

SAY_EVERY = 5.0  # seconds between two lines that say the same

Key = tuple[str, int, str]


class Seldom(logging.Filter):
    """Lets through one record of each message of these loggers in `seconds`; the next one says how many there were."""

    def __init__(self, *loggers: str, seconds: float = SAY_EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._loggers, self._seconds, self._clock = loggers, seconds, clock
        self._said: dict[Key, tuple[float, int]] = {}  # when, and how many were left unsaid since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged. A message is the same whatever its arguments are."""
        if not any(record.name == name or record.name.startswith(f"{name}.") for name in self._loggers):
            return True
        key = (record.name, record.levelno, str(record.msg)[:80])
        now = self._clock()
        said_at, unsaid = self._said.get(key, (-self._seconds, 0))
        if now - said_at < self._seconds:
            self._said[key] = (said_at, unsaid + 1)
            return False
        self._said[key] = (now, 0)
        if unsaid:
            record.msg = f"{record.msg} (and {unsaid} times more in the last {now - said_at:.0f} s)"
        return True
