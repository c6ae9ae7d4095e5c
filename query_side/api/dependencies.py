"""What typed routes are given by name: a connection for the length of the request, and the key of cursors."""

from collections.abc import AsyncIterator, Callable

import asyncpg
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from query_side.events.queries import Connection
from query_side.feed.event_status import Statuses
from query_side.log_positions.cursors import Cursors

Connected = NamedDependency[SkipValidation[Connection]]
TheCursors = NamedDependency[SkipValidation[Cursors]]


def dependencies_of(
    pool_of: Callable[[], asyncpg.Pool],
    cursors_of: Callable[[], Cursors],
    statuses_of: Callable[[], Statuses],
    timeout: float,
) -> dict[str, Provide]:
    """`pool_of()` and `cursors_of()` give what the lifespan has opened; `timeout`: seconds to wait for a connection."""

    async def connection() -> AsyncIterator[Connection]:
        async with pool_of().acquire(timeout=timeout) as acquired:
            yield acquired

    def cursors() -> Cursors:
        return cursors_of()

    def statuses() -> Statuses:
        return statuses_of()

    return {
        "connection": Provide(connection),
        "cursors": Provide(cursors, sync_to_thread=False),
        "statuses": Provide(statuses, sync_to_thread=False),
    }
