"""A connection to PostgreSQL as the projector's functions take it: from a pool or not."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from projector.writing.failure import NotConnectedError

Connection = PoolConnectionProxy | asyncpg.Connection


@asynccontextmanager
async def connected(pool: Any, timeout: float) -> AsyncIterator[Connection]:
    """A connection of the pool. Raises NotConnectedError when none can be had, so that nobody takes that for a failure
    of what was to be done with it. `timeout`: seconds to get it, and to give a broken one back.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(pool.acquire(timeout=timeout))
        except Exception as error:
            raise NotConnectedError from error
        yield connection
