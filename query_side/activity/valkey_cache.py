"""Valkey as a cache: it may be away, slow or full at any time, and then answers as if it had nothing."""

import asyncio
import time
from contextlib import suppress

from pydantic import SecretStr
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from telemetry.logs import get_logger
from telemetry.metrics import KEPT_ANSWERS

TIMEOUT = 0.5  # seconds for one answer of Valkey
REST = 1.0  # seconds in which it is not asked again after it failed
PREFIX = "footfall:answer:"


class ValkeyCache:
    """Bytes by key, for at most so long."""

    def __init__(self, url: SecretStr, max_age_ms: int, timeout: float = TIMEOUT) -> None:
        """`url`: of Valkey; it may hold a password, which may change. `timeout`: seconds."""
        self._url, self._max_age_ms, self._timeout = url, max_age_ms, timeout
        self._used_url = ""
        self._valkey: Valkey | None = None
        self._rests_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """What is kept under the key; None, too, if Valkey does not answer."""
        return await self._asked("GET", PREFIX + key)

    async def put(self, key: str, value: bytes, age: float) -> None:
        """Keeps a value, which is so many seconds old, until it is CACHE_MAX_AGE_MS old; if Valkey takes it."""
        rest = self._max_age_ms - int(age * 1000)
        if rest > 0:
            await self._asked("SET", PREFIX + key, value, "PX", rest)

    async def _asked(self, *command: str | bytes | int) -> bytes | None:
        if time.monotonic() < self._rests_until:
            KEPT_ANSWERS.labels("away").inc()
            return None
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._client()
                found = await client.execute_command(*command)  # type: ignore[no-untyped-call]
            self._rests_until = 0.0
            return found if isinstance(found, bytes) else None
        except Exception as error:  # noqa: BLE001 - its client's errors are no closed set
            if not self._rests_until:
                get_logger("query-side").warning("cache_away", error=type(error).__name__)
            self._rests_until = time.monotonic() + REST
            KEPT_ANSWERS.labels("away").inc()
            return None

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
