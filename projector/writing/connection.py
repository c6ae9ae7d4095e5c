"""The type of a PostgreSQL connection, from a pool or not, and a way to take one from a pool."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from projector.writing.failure import NotConnectedError

Connection = PoolConnectionProxy | asyncpg.Connection


@asynccontextmanager
async def connected(pool: Any, timeout: float) -> AsyncIterator[Connection]:
    """Takes a connection from the pool for the duration of the context.

    Args:
        pool: the asyncpg pool.
        timeout: seconds to get a connection, and to return a broken one.

    Raises:
        NotConnectedError: no connection is available. It distinguishes this from a failure of the context's body.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(pool.acquire(timeout=timeout))
        except Exception as error:
            raise NotConnectedError from error
        yield connection
