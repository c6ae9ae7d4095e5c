"""Valkey as a cache: it may be away, slow or full at any time, and then answers as if it had nothing."""

import asyncio
import time
from contextlib import suppress

from pydantic import SecretStr
from valkey.asyncio import Valkey
from valkey.exceptions import ResponseError, ValkeyError

from telemetry.health import DependencyState
from telemetry.logs import get_logger
from telemetry.metrics import KEPT_ANSWERS

TIMEOUT = 0.5  # seconds for one answer of Valkey
REST = 1.0  # seconds in which it is not asked again after it failed
PREFIX = "footfall:answer:"


class Rest:
    """Whether Valkey is asked for one thing, to read or to write."""

    def __init__(self) -> None:
        self.trouble = ""  # of the last answer
        self._until = 0.0

    def lasts(self) -> bool:
        """False: it may be asked. After a trouble one request asks for all; until it knows, the others do not wait."""
        now = time.monotonic()
        if now < self._until:
            return True
        if self.trouble:
            self._until = now + REST
        return False

    def ends(self) -> None:
        """Valkey did what it was asked for."""
        self.trouble, self._until = "", 0.0

    def begins(self, trouble: str) -> bool:
        """Valkey did not. Returns whether that is news."""
        is_new, self.trouble = trouble != self.trouble, trouble
        self._until = time.monotonic() + REST
        return is_new


class ValkeyCache:
    """Bytes by key, for at most so long."""

    def __init__(self, url: SecretStr, max_age_ms: int, timeout: float = TIMEOUT) -> None:
        """`url`: of Valkey; it may hold a password, which may change. `timeout`: seconds."""
        self._url, self._max_age_ms, self._timeout = url, max_age_ms, timeout
        self._used_url = ""
        self._valkey: Valkey | None = None
        self._reads, self._writes = Rest(), Rest()

    async def get(self, key: str) -> bytes | None:
        """What is kept under the key; None, too, if Valkey does not answer."""
        return await self._asked(self._reads, "GET", PREFIX + key)

    async def put(self, key: str, value: bytes, age: float) -> None:
        """Keeps a value, which is so many seconds old, until it is CACHE_MAX_AGE_MS old; if Valkey takes it."""
        rest = self._max_age_ms - int(age * 1000)
        if rest > 0:
            await self._asked(self._writes, "SET", PREFIX + key, value, "PX", rest)

    async def state(self) -> DependencyState:
        """Never a reason not to serve: PostgreSQL answers what Valkey does not."""
        if self._reads.trouble:
            return DependencyState(ok=True, detail=f"PostgreSQL answers: {self._reads.trouble} of Valkey")
        if self._writes.trouble:
            return DependencyState(ok=True, detail=f"no further answer is kept: {self._writes.trouble} of Valkey")
        return DependencyState(ok=True)

    async def _asked(self, rest: Rest, *command: str | bytes | int) -> bytes | None:
        if rest.lasts():
            KEPT_ANSWERS.labels("away").inc()
            return None
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._client()
                found = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - its client's errors are no closed set
            self._failed(rest, error)
            return None
        rest.ends()
        return found if isinstance(found, bytes) else None

    def _failed(self, rest: Rest, error: Exception) -> None:
        """A Valkey that is full, or a replica, refuses to write and still answers. If none answers, it does neither."""
        KEPT_ANSWERS.labels("away").inc()
        name = type(error).__name__
        resting = [rest] if isinstance(error, ResponseError) else [self._reads, self._writes]
        changes = [each.begins(name) for each in resting]
        if any(changes):
            get_logger("query-side").warning("cache_away", error=name)

    async def _client(self) -> Valkey:
        url = self._url.get_secret_value()
        if self._valkey is None or url != self._used_url:
            await self.close()
            self._valkey = Valkey.from_url(url, socket_timeout=self._timeout, socket_connect_timeout=self._timeout)
            self._used_url = url
        return self._valkey

    async def close(self) -> None:
        """Leaves Valkey."""
        if self._valkey is not None:
            with suppress(ValkeyError, OSError):
                await self._valkey.aclose()
