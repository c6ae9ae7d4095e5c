"""Follows one stream with many clients: `python -m bench.clients.sse_client '<Followers as JSON>'`.

One task posts events, one at a time; each follower notes when it receives each event. All times are of this process's
clock. It prints one `Followed` as JSON.
"""

import asyncio
import gc
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench.clients.first_sight import Accepted
from bench.clients.load import quantile

REQUEST = b"GET /events/stream HTTP/1.1\r\nHost: bench\r\n\r\n"
POST = (
    b"POST /events/generate HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
BODY = b'{"userId":"user-%d","eventType":"PRODUCT_VIEW","payload":{"productId":"p-%d"}}'
GIVE_UP = 240.0  # seconds
LAST_WITHIN = 30.0  # seconds after the last POST for the last event to arrive
POLLS = 300  # GETs whose mean gives the time of polling


class Followers(msgspec.Struct, frozen=True):
    """How many clients follow, and how many events are posted, with `pause` seconds between two."""

    port: int
    clients: int
    events: int
    pause: float = 0.1


class Followed(msgspec.Struct, frozen=True):
    """Milliseconds from sending a POST until the last client has the event, and the number of missing events."""

    p50: float
    p99: float
    missing: int
    polled: float  # milliseconds to answer a GET of one event for every client, one after another


class Follower(asyncio.Protocol):
    """Notes when each event of one stream arrives."""

    def __init__(self, joined: asyncio.Semaphore) -> None:
        self.arrived: list[float] = []
        self._joined = joined
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(REQUEST)  # uvloop's own class, not a subclass

    def data_received(self, data: bytes) -> None:
        *messages, self._tail = (self._tail + data).split(b"\n\n")
        for message in messages:
            if b"\nevent: begin\n" in message:
                self._joined.release()
            elif b"\nevent: " in message:
                self.arrived.append(time.perf_counter())


async def measure(task: Followers) -> Followed:
    """Connects all followers, then posts the events."""
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
    await wait_for_all(followers, task.events)
    polled = await time_of_polling(reader, writer, event, task.clients)
    writer.close()
    whole = [one for one in followers if len(one.arrived) == task.events]
    lasts = [0.0]
    if whole:
        lasts = sorted((max(one.arrived[n] for one in whole) - at) * 1000 for n, at in enumerate(posted))
    missing = sum(task.events - len(one.arrived) for one in followers)
    return Followed(quantile(lasts, 0.5), quantile(lasts, 0.99), missing, polled * 1000)


async def answered(reader: asyncio.StreamReader) -> bytes:
    """Reads the next answer and returns its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return await reader.readexactly(int(length.split(b":")[1]))


async def wait_for_all(followers: list[Follower], events: int) -> None:
    """Waits until every follower has all events, for `LAST_WITHIN` at most."""
    deadline = time.perf_counter() + LAST_WITHIN
    while time.perf_counter() < deadline and any(len(one.arrived) < events for one in followers):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # time for an event that is sent twice


async def time_of_polling(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, created: bytes, clients: int
) -> float:
    """Returns the seconds to answer each client one GET of the event, estimated from the mean of `POLLS` GETs."""
    path = f"/events/{msgspec.json.decode(created, type=Accepted).event.event_id}"
    started = time.perf_counter()
    for _ in range(POLLS):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        await answered(reader)
    return (time.perf_counter() - started) / POLLS * clients


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Followers)))).decode())
