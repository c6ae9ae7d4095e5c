"""A URL of Valkey may lead to another server, or have an option that nobody knows: nothing fails for it."""

import asyncio
from contextlib import suppress

import pytest
from pydantic import SecretStr

from query_side.activity.valkey_cache import ValkeyCache
from web.policies.limits.rates import Bucket, Buckets, Rate
from web.policies.limits.valkey_rates import SharedRates

MINUTE = 60_000  # ms


@pytest.mark.parametrize(
    "answer",
    [
        b":5\r\n",
        b"+OK\r\n",
        b"*1\r\n$1\r\na\r\n",
        b"-ERR no\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*1\r\n" * 5_000,
    ],
)
async def test_what_answers_like_no_valkey_has_nothing(answer: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while await reader.read(1_000):
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        url = f"valkey://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cache, shared = ValkeyCache(SecretStr(url), MINUTE), SharedRates(SecretStr(url))
        assert await cache.get("key") in (None, b"OK")
        await shared.tell()  # never raises
        shared.note(Buckets(Rate("users", 1, 1.0)), Bucket("key"), 0.1)
        await shared.tell()
        assert (await shared.state()).detail
        await cache.close()
        await shared.close()


async def test_a_url_with_options_that_nobody_knows_keeps_nothing() -> None:
    for option in ("colour=red", "db=x"):
        assert await ValkeyCache(SecretStr(f"valkey://127.0.0.1:1/?{option}"), MINUTE).get("key") is None
