"""What typed routes are given by name: a connection for the length of the request, the tenant, the key of cursors."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
from litestar import Request
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from query_side.activity.kept_answers import KeptAnswers
from query_side.api.asking import tenant_of
from query_side.feed.event_status import Statuses
from query_side.log_positions.cursors import Cursors
from read_model.connecting.pool import Connection
from web.tenants.position_tokens import PositionTokens

Connected = NamedDependency[SkipValidation[Connection]]
TheTenant = NamedDependency[SkipValidation[str]]
TheKeptAnswers = NamedDependency[SkipValidation[KeptAnswers]]
TheCursors = NamedDependency[SkipValidation[Cursors]]


def dependencies_of(
    pool_of: Callable[[], asyncpg.Pool],
    cursors_of: Callable[[], Cursors],
    statuses_of: Callable[[], Statuses],
    tokens: PositionTokens,
    kept: KeptAnswers,
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

    def tenant(request: Request[Any, Any, Any]) -> str:
        scope: Any = request.scope
        return tenant_of(scope)

    return {
        "connection": Provide(connection),
        "cursors": Provide(cursors, sync_to_thread=False),
        "statuses": Provide(statuses, sync_to_thread=False),
        "kept": Provide(lambda: kept, sync_to_thread=False),
        "tokens": Provide(lambda: tokens, sync_to_thread=False),
        "tenant": Provide(tenant, sync_to_thread=False),
    }
