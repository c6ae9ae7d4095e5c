"""Many followers of one stream: `python -m bench.sse_client '<Followers as JSON>'` prints one `Followed` as JSON.

One task posts events, one at a time; each follower notes when it has each. Times are this process's own.
"""

import asyncio
import gc
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench.first_sight import Accepted
from bench.load import quantile

REQUEST = b"GET /events/stream HTTP/1.1\r\nHost: bench\r\n\r\n"
POST = (
    b"POST /events/generate HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
BODY = b'{"userId":"user-%d","eventType":"PRODUCT_VIEW","payload":{"productId":"p-%d"}}'
GIVE_UP = 240.0  # seconds
LAST_WITHIN = 30.0  # seconds, after the last POST
POLLS = 300


class Followers(msgspec.Struct, frozen=True):
    """How many clients follow through `port`, and how many events are posted, with so many seconds between."""

    port: int
    clients: int
    events: int
    pause: float = 0.1


class Followed(msgspec.Struct, frozen=True):
    """From the POST's sending to the last client that has the event, milliseconds; and how many were missing."""

    p50: float
    p99: float
    missing: int
    polled: float  # what asking for one event takes, once for each client and one after the other: milliseconds


class Follower(asyncio.Protocol):
    """Counts the events of one stream and notes when each came."""

    def __init__(self, joined: asyncio.Semaphore) -> None:
        self.came: list[float] = []
        self._joined = joined
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(REQUEST)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        if b"heartbeat" in text and not self.came:
            self._joined.release()
        self.came += [time.perf_counter()] * text.count(b"\nevent: ")
        self._tail = text[-8:] if not text.endswith(b"\n\n") else b""


async def measure(task: Followers) -> Followed:
    """Connects everybody, then posts."""
    loop = asyncio.get_running_loop()
    joined = asyncio.Semaphore(0)
    followers = []
    for _ in range(task.clients):
        _, follower = await loop.create_connection(lambda: Follower(joined), "127.0.0.1", task.port)
        followers.append(follower)
    async with asyncio.timeout(GIVE_UP):
        for _ in range(task.clients):
            await joined.acquire()
    gc.disable()
    reader, writer = await asyncio.open_connection("127.0.0.1", task.port)
    posted, event = list[float](), b""
    for n in range(task.events):
        body = BODY % (n, n)
        posted.append(time.perf_counter())
        writer.write(POST % (len(body), body))
        event = await answered(reader)
        await asyncio.sleep(task.pause)
    await until_all_came(followers, task.events)
    polled = await asked_for_each(reader, writer, event, task.clients)
    writer.close()
    whole = [follower for follower in followers if len(follower.came) == task.events]
    lasts = sorted((max(one.came[n] for one in whole) - at) * 1000 for n, at in enumerate(posted)) if whole else [0.0]
    missing = sum(task.events - len(follower.came) for follower in followers)
    return Followed(quantile(lasts, 0.5), quantile(lasts, 0.99), missing, polled * 1000)


async def answered(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return await reader.readexactly(int(length.split(b":")[1]))


async def until_all_came(followers: list[Follower], events: int) -> None:
    """Or not: what is missing after `LAST_WITHIN` is counted."""
    deadline = time.perf_counter() + LAST_WITHIN
    while time.perf_counter() < deadline and any(len(follower.came) < events for follower in followers):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # one that came twice would come now


async def asked_for_each(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, created: bytes, clients: int
) -> float:
    """Seconds that it would take to answer each client a GET of the event, by the mean of some."""
    path = f"/events/{msgspec.json.decode(created, type=Accepted).event.event_id}"
    started = time.perf_counter()
    for _ in range(POLLS):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        await answered(reader)
    return (time.perf_counter() - started) / POLLS * clients


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Followers)))).decode())
