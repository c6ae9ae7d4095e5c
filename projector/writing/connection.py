"""Takes a PostgreSQL connection from a pool, and tells a pool that has none from a failure of what it is for."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from projector.writing.failure import NotConnectedError
from read_model.connecting.pool import Connection


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
