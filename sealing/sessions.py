"""Sessions of the key store: each for a short time, and what goes wrong in them is one error with a remedy."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from read_model.connecting.database_url import Url
from read_model.connecting.pool import Connection, connect, open_pool
from read_model.connecting.unavailable import OF_POSTGRESQL
from sealing.errors import KeyStoreAwayError

QUERY_TIMEOUT = 5.0  # seconds for a session and its statements
SESSIONS = 4  # at the same time

PREPARE = " Let its owner run `footfall privacy prepare`, and make the role of KEY_STORE_URL a member of footfall_keys."
SIGN_IN = " Check the role and the password of KEY_STORE_URL."
READ_ONLY = " It is read-only: KEY_STORE_URL must name the primary."
REMEDIES = {
    "42P01": PREPARE,
    "3F000": PREPARE,
    "42501": PREPARE,
    "42703": PREPARE,
    "25006": READ_ONLY,
    "28000": SIGN_IN,
    "28P01": SIGN_IN,
}

Heard = Callable[[Any, int, str, Any], None]  # a listener, as asyncpg calls it: the last but one is the payload


class Sessions:
    """The connections of one process. Every method but `close` raises KeyStoreAwayError."""

    def __init__(self, url: Url, application: str) -> None:
        self._url = url
        self._application = application
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connects, unless it is connected."""
        if self._pool is None:
            async with _talking():
                self._pool = await open_pool(
                    self._url,
                    application=self._application,
                    min_size=1,
                    max_size=SESSIONS,
                    stateless=True,
                )

    async def close(self) -> None:
        """Disconnects."""
        if self._pool is not None:
            self._pool.terminate()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """The rows of one statement."""
        async with self.session() as connection:
            found: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return found

    async def execute(self, statement: str, *arguments: object) -> None:
        """Runs one statement."""
        async with self.session() as connection:
            await connection.execute(statement, *arguments)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A session, for `QUERY_TIMEOUT` at most. One that did not answer in time is ended at once.

        To return it instead would wait for the answer to a request to cancel, which a store that hangs never gives.
        """
        if self._pool is None:
            raise KeyStoreAwayError("The key store is not connected yet.")
        async with _talking(), asyncio.timeout(QUERY_TIMEOUT):
            connection = await self._pool.acquire()
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    @asynccontextmanager
    async def listening(self, channel: str, heard: Heard) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own that calls `heard` with what is told in the channel."""
        async with _talking():
            connection = await connect(self._url, self._application, query_timeout=QUERY_TIMEOUT)
        try:
            async with _talking():
                await connection.add_listener(channel, heard)
            yield connection
        finally:
            connection.terminate()


@asynccontextmanager
async def _talking() -> AsyncIterator[None]:
    """What the store or its driver raises means that it cannot be used now. Its text may quote values.

    Anything else, also a value that the driver does not take, is a fault of this program, and no word of the store's.
    """
    try:
        yield
    except OF_POSTGRESQL as error:
        if isinstance(error, ValueError):
            raise
        code = getattr(error, "sqlstate", None)
        name = f"{type(error).__name__} {code}" if code else type(error).__name__
        remedy = REMEDIES.get(code or "", "")
        raise KeyStoreAwayError(f"The key store does not answer or refuses: {name}.{remedy}") from error
