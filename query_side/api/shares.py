"""The places that exports, streams and fresh reads take, and the share of them that one principal may hold."""

from collections.abc import Iterator
from contextlib import contextmanager

from web.policies.decisions import RefusedError
from web.policies.limits.shares import Share
from web.policies.principal import Principal


class Places:
    """What a process does at once, at most. A place is looked for and taken in one step, without an await between."""

    def __init__(self, most: int, busy: str) -> None:
        """`busy`: the sentence for whom there is no place."""
        self._free, self._busy = most, busy

    @contextmanager
    def one(self) -> Iterator[None]:
        """Holds a place while the body runs. Raises RefusedError (503)."""
        if self._free <= 0:
            raise RefusedError(503, self._busy, (b"retry-after", b"5"))
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


@contextmanager
def held(share: Share, principal: Principal, amount: int = 1) -> Iterator[None]:
    """Holds places of the share while the body runs. Raises RefusedError (429)."""
    if not share.take(principal, amount):
        refusal = share.refusal
        raise RefusedError(refusal.status, refusal.error, *refusal.headers)
    try:
        yield
    finally:
        share.give_back(principal, amount)
