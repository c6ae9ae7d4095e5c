"""Waits for positions, of every route that has them: together they are bounded, and each principal has its share."""

from collections.abc import Sequence

from query_side.api.shares import held
from query_side.log_positions.positions import Position
from query_side.log_positions.progress import Progress
from web.policies.limits.shares import Share
from web.policies.principal import Principal

MAX_WAITING = 1_000  # requests that may wait at the same time; further requests get an answer without a wait


class BoundedWaits:
    """Lets requests wait until the read model has passed positions, at most as many as `share` has places."""

    def __init__(self, progress: Progress, share: Share) -> None:
        self._progress, self._share = progress, share
        self._waiting = 0

    async def wait_for(self, principal: Principal, positions: Sequence[Position], seconds: float) -> list[Position]:
        """Waits until the read model has passed all positions, but not at all if too many requests wait already.

        Args:
            principal: who asks.
            positions: the positions to wait for.
            seconds: the longest wait; 0: read the progress once.

        Returns:
            The positions that are not passed in time; empty if all are.

        Raises:
            RefusedError: (429) the principal's share of the waits is used up.
        """
        with held(self._share, principal):
            if self._waiting >= self._share.places:
                seconds = 0
            self._waiting += 1
            try:
                return await self._progress.wait_for(positions, seconds)
            finally:
                self._waiting -= 1
