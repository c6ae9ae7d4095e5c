"""Sums up deeds that somebody asked for and that were not done, so that the audit log tells of them, and by whom.

The sums are kept, not the requests: nobody can fill the log by being refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

MOST = 1_000  # different sums that wait for the audit log
OTHERS = "others"


class Undone(NamedTuple):
    """Who asked for what, and what came of it: `refused`: it was not allowed; `failed`: it was, and not done."""

    actor: str
    tenant_id: str
    action: str
    outcome: Literal["refused", "failed"]
    why: str  # no personal data


class Sum(NamedTuple):
    """How often, and the id of the newest request."""

    times: int
    request_id: str


class UndoneDeeds:
    """What was not done since the audit log was told the last time."""

    def __init__(self) -> None:
        self._sums: dict[Undone, Sum] = {}

    def note(self, deed: Undone, request_id: str = "") -> None:
        """Counts one request. Of too many askers the rest is one sum."""
        if deed not in self._sums and len(self._sums) >= MOST:
            deed = deed._replace(actor=OTHERS, tenant_id="", why="")
        self._sums[deed] = Sum(self._sums.get(deed, Sum(0, "")).times + 1, request_id)

    @contextmanager
    def taking(self) -> Iterator[dict[Undone, Sum]]:
        """Yields the sums. The body removes those that it has dealt with; the rest is yielded again the next time."""
        found, self._sums = self._sums, {}
        try:
            yield found
        finally:
            for deed, (times, request_id) in found.items():
                newer = self._sums.get(deed)
                self._sums[deed] = (
                    Sum(times, request_id) if newer is None else Sum(times + newer.times, newer.request_id)
                )


UNDONE = UndoneDeeds()
