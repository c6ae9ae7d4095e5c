"""The load generator: `python -m bench.clients.load '<Load as JSON>'` prints one `Measured` as JSON.

It is a raw protocol on uvloop. Requests are rendered beforehand, and only status and length of an answer are read,
because the generator shares the CPU with the servers that it measures.
"""

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec
import uvloop

from bench.clients.traffic import bodies

DISTINCT_REQUESTS = 20_000


class Load(msgspec.Struct, frozen=True):
    """What to send, over `connections` keep-alive connections with one request in flight each."""

    port: int
    path: str
    connections: int
    seconds: float
    warmup: float = 1.0  # seconds that are not counted
    seed: int = 1
    items: int = 1  # commands in a request; more than one make a JSON array
    refused_wait: float | None = None  # seconds that a client waits after a 503; None: a 503 is an error
    gets: list[str] = []  # paths to GET in turn (expected: 200), instead of POSTs (expected: 201)
    key: str = ""  # to show with each request


class Measured(msgspec.Struct, frozen=True):
    """The answers in the counted time."""

    requests: int
    per_second: float
    p50: float  # milliseconds
    p99: float  # milliseconds
    slowest: float  # milliseconds
    errors: int  # answers with another status, and lost connections; also those of the warm-up
    refused: int = 0  # 503s in the counted time, if they are not errors
    refused_p99: float = 0.0  # milliseconds


class Tally:
    """Latencies since `start`, and all errors."""

    def __init__(self) -> None:
        self.latencies: list[float] = []  # seconds
        self.refusals: list[float] = []  # seconds
        self.errors = 0
        self.done = False

    def start(self) -> None:
        """Drops the latencies of the warm-up."""
        self.latencies.clear()
        self.refusals.clear()


class Client(asyncio.Protocol):
    """One connection that sends its next request as soon as an answer is complete."""

    def __init__(self, requests: Iterator[bytes], tally: Tally, load: Load) -> None:
        self._requests = requests
        self._tally = tally
        self._refused_wait = load.refused_wait
        self._expected = b"200" if load.gets else b"201"
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own, not a subclass
        self._send()

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        """Counts an answer once it is complete, and sends the next request."""
        arrived = time.perf_counter()
        if self._received:
            data = self._received + data
        if not is_complete(data):
            self._received = data
            return
        self._received = b""
        took = arrived - self._sent_at
        if data[9:12] == b"503" and self._refused_wait is not None:
            self._tally.refusals.append(took)
            asyncio.get_running_loop().call_later(self._refused_wait, self._send)
            return
        self._tally.latencies.append(took)
        if data[9:12] != self._expected:
            self._tally.errors += 1
        if self._tally.done:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts an end that this client did not request as an error."""
        if not self._tally.done:
            self._tally.errors += 1


def is_complete(answer: bytes) -> bool:
    """Whether head and body of an HTTP/1.1 answer with a `content-length` have arrived."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = answer.find(b"content-length: ", 0, head + 2)
    if at < 0:
        at = answer.find(b"Content-Length: ", 0, head + 2)  # Node's spelling
    if at < 0:
        raise ValueError("an answer without content-length")
    return len(answer) >= head + 4 + int(answer[at + 16 : answer.index(b"\r", at)])


def rendered(load: Load) -> list[bytes]:
    """Renders complete HTTP requests."""
    shown = f"authorization: Bearer {load.key}\r\n" if load.key else ""
    if load.gets:
        head = f"HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\naccept: */*\r\n{shown}\r\n"
        return [f"GET {path} {head}".encode() for path in load.gets]
    return [
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: */*\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n%b\r\n%b" % (load.path.encode(), load.port, len(body), shown.encode(), body)
        for body in request_bodies(load)
    ]


def request_bodies(load: Load) -> list[bytes]:
    """Returns the request bodies: one command each, or arrays of `items` commands."""
    commands = bodies(load.seed, DISTINCT_REQUESTS)
    if load.items == 1:
        return commands
    return [b"[%b]" % b",".join(commands[first : first + load.items]) for first in range(0, len(commands), load.items)]


async def measure(load: Load) -> Measured:
    """Sends for `warmup` + `seconds` seconds, and returns the answers of the latter."""
    tally, requests = Tally(), itertools.cycle(rendered(load))
    loop = asyncio.get_running_loop()
    gc.disable()
    for _ in range(load.connections):
        await loop.create_connection(lambda: Client(requests, tally, load), "127.0.0.1", load.port)
    await asyncio.sleep(load.warmup)
    tally.start()
    started = time.perf_counter()
    await asyncio.sleep(load.seconds)
    elapsed, latencies = time.perf_counter() - started, sorted(tally.latencies)
    tally.done = True
    await asyncio.sleep(0.2)
    if not latencies:
        raise RuntimeError(f"no answer from port {load.port} within {load.seconds:g} s")
    return Measured(
        requests=len(latencies),
        per_second=len(latencies) / elapsed,
        p50=quantile(latencies, 0.5) * 1000,
        p99=quantile(latencies, 0.99) * 1000,
        slowest=latencies[-1] * 1000,
        errors=tally.errors,
        refused=len(tally.refusals),
        refused_p99=quantile(sorted(tally.refusals), 0.99) * 1000 if tally.refusals else 0.0,
    )


def quantile(ordered: Sequence[float], q: float) -> float:
    """Returns the nearest-rank quantile of values in ascending order; `q`: 0 to 1."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]


if __name__ == "__main__":
    found = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Load)))
    print(msgspec.json.encode(found).decode())
