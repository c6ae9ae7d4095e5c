"""Measures how soon a posted event can be read: `python -m bench.clients.first_sight '<FirstSights as JSON>'`.

It prints one `Seen` as JSON.
"""

import gc
import http.client
import random
import sys
import time

import msgspec

from bench.clients.load import quantile
from bench.clients.traffic import bodies

WARMUP = 30  # events that are not counted
LONGEST_PAUSE = 0.02  # seconds between events at most, random, so that posts meet every phase of the projector's fetch
GIVE_UP = 120.0  # seconds


class FirstSights(msgspec.Struct, frozen=True):
    """How many events to post, and the port."""

    port: int
    count: int
    seed: int = 1
    by_position: bool = False  # one GET with the event's position, which must find it, instead of polling


class Seen(msgspec.Struct, frozen=True):
    """Milliseconds from the 201 to the first 200, and the latency of the POSTs, with which they are compared."""

    p50: float
    p99: float
    slowest: float
    post_p50: float
    post_p99: float


class Created(msgspec.Struct, rename="camel"):
    """The part of a 201's event that is read."""

    event_id: str


class Accepted(msgspec.Struct):
    """The part of a 201 that is read."""

    event: Created


def measure(task: FirstSights) -> Seen:
    """Posts one event at a time and asks for it until it is found."""
    connection = http.client.HTTPConnection("127.0.0.1", task.port, timeout=GIVE_UP)
    chance = random.Random(task.seed)
    gc.disable()
    took = []
    for body in bodies(task.seed, task.count + WARMUP):
        time.sleep(chance.uniform(0, LONGEST_PAUSE))
        took.append(first_sight(connection, body, by_position=task.by_position))
    posts, waits = (sorted(found) for found in zip(*took[WARMUP:], strict=True))
    p50, p99, slowest = (found * 1000 for found in (quantile(waits, 0.5), quantile(waits, 0.99), waits[-1]))
    return Seen(p50, p99, slowest, quantile(posts, 0.5) * 1000, quantile(posts, 0.99) * 1000)


def first_sight(connection: http.client.HTTPConnection, body: bytes, *, by_position: bool) -> tuple[float, float]:
    """Returns the seconds to the 201, and from the 201 to the first 200.

    With `by_position` the first answer must be a 200. Raises RuntimeError otherwise.
    """
    sent_at = time.perf_counter()
    connection.request("POST", "/events/generate", body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    accepted_at = time.perf_counter()
    if response.status != 201:
        raise RuntimeError(f"POST was answered {response.status}: {answer[:200]!r}")
    headers = {"footfall-position": response.headers["footfall-position"]} if by_position else {}
    path = f"/events/{msgspec.json.decode(answer, type=Accepted).event.event_id}"
    while (elapsed := time.perf_counter() - accepted_at) < GIVE_UP:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            return accepted_at - sent_at, time.perf_counter() - accepted_at
        if by_position:
            raise RuntimeError(f"stale: the GET was answered {response.status}")
    raise RuntimeError(f"the event was not visible after {elapsed:g} s")


if __name__ == "__main__":
    print(msgspec.json.encode(measure(msgspec.json.decode(sys.argv[1], type=FirstSights))).decode())
