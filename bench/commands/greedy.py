"""Measures what other clients notice of one that sends the worst bodies, and of thirty that filter by a rare type."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import asyncpg

from bench.clients.load import Load, Measured
from bench.commands.post import PATH, command_side
from bench.projecting.drain import fresh_database
from bench.reads.read import query_side
from bench.reads.stored import USERS, fill
from bench.result import Result, absolute, compared
from bench.stage import Stage

SECONDS = 6.0  # of each measurement
OTHERS = 8  # connections of the clients that are measured
STORED = 500_000
GREEDY = 30  # connections that filter by a type
BATCH = "/events/generate/batch"
LIVE = "/health/live"
# One MiB of the bodies that take longest to judge: many commands with many nested lists.
LISTS: list[object] = [[[[[[[[[[]]]]]]]]] for _ in range(750)]
WORST = json.dumps(
    [{"userId": "u", "eventType": "LOGIN", "payload": {"a": LISTS}}] * 62, separators=(",", ":")
).encode()
NO_LOGOUTS = "UPDATE read_g1.processed_events SET event_type = 'LOGIN' WHERE event_type = 'LOGOUT'"
LOOKUPS = [f"/events/01980000-0000-7000-8000-{n * 997 % STORED:012x}" for n in range(500)]
RARE = ["/events/processed?eventType=LOGOUT&limit=100"]
ORDINARY = [f"/events/processed?userId=user-{n * 37 % USERS}&limit=100" for n in range(500)]


def greedy(stage: Stage) -> list[Result]:
    """Measures POSTs and the event loop beside batches of nested lists, and lookups beside a rare filter."""
    return beside_the_worst_bodies(stage) + beside_a_rare_type(stage)


def beside_the_worst_bodies(stage: Stage) -> list[Result]:
    """Measures POSTs at 8 connections, without and with one client that sends the worst batches in a loop."""
    alone: list[Measured] = []
    beside: list[Measured] = []
    worst: list[float] = []
    held: list[float] = []
    with command_side(stage, stage.topic("bench-greedy")) as port:
        for run in range(stage.runs):
            alone.append(stage.work("bench.clients.load", Load(port, PATH, OTHERS, SECONDS, seed=run), Measured))
            with sending_the_worst(port) as took:
                beside.append(stage.work("bench.clients.load", Load(port, PATH, OTHERS, SECONDS, seed=run), Measured))
                # One request at a time that only the event loop answers: none waits for longer than the loop is held.
                held.append(stage.work("bench.clients.load", Load(port, "", 1, SECONDS, gets=[LIVE]), Measured).slowest)
            worst.append(max(took) * 1000)
            stage.say(
                f"POST beside the worst bodies, run {run + 1}/{stage.runs}: p99 {alone[-1].p99:.1f} ms alone, "
                f"{beside[-1].p99:.1f} ms beside {len(took)} batches of which the slowest took {worst[-1]:.0f} ms; "
                f"the loop was held for less than {held[-1]:.1f} ms"
            )
    p99 = [one.p99 for one in beside]
    return [
        compared("post_p99_beside_worst_bodies", "ms", p99, "such a body's own answer", worst, ("<=", 0.25)),
        compared("loop_held_by_worst_bodies", "ms", held, "such a body's own answer", worst, ("<=", 0.125)),
        compared("post_p99_beside_against_alone", "ms", p99, "without it", [one.p99 for one in alone]),
        absolute("errors_beside_worst_bodies", "errors", [sum(one.errors for one in beside)], ("==", 0)),
    ]


@contextmanager
def sending_the_worst(port: int) -> Iterator[list[float]]:
    """Posts the worst batch again and again during the body; yields the seconds that each answer took."""
    took: list[float] = []
    ended = threading.Event()

    def attack() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not ended.is_set():
            started = time.perf_counter()
            connection.request("POST", BATCH, WORST, {"Content-Type": "application/json"})
            connection.getresponse().read()
            took.append(time.perf_counter() - started)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        attacking = pool.submit(attack)
        try:
            yield took
        finally:
            ended.set()
            attacking.result(120)


def beside_a_rare_type(stage: Stage) -> list[Result]:
    """Measures lookups beside 30 clients that filter 500,000 events by a type without hits, and by a user."""
    url = fresh_database(stage, stage.stack.admin_url)
    fill(url, 0, STORED)
    asyncio.run(executed(url, NO_LOGOUTS, "VACUUM ANALYZE read_g1.processed_events"))
    rare: list[Measured] = []
    ordinary: list[Measured] = []
    with query_side(stage) as (port, _):
        for run in range(stage.runs):
            ordinary.append(lookups_beside(stage, port, ORDINARY))
            rare.append(lookups_beside(stage, port, RARE))
            stage.say(
                f"lookups beside {GREEDY} clients, run {run + 1}/{stage.runs}: p99 {ordinary[-1].p99:.1f} ms "
                f"beside pages of a user, {rare[-1].p99:.1f} ms beside a type without hits"
            )
    p99, p99_ordinary = [one.p99 for one in rare], [one.p99 for one in ordinary]
    return [
        compared("lookup_p99_beside_a_rare_type", "ms", p99, "beside pages of a user", p99_ordinary, ("<=", 2)),
        absolute("errors_beside_a_rare_type", "errors", [sum(one.errors for one in rare)], ("==", 0)),
    ]


async def executed(url: str, *statements: str) -> None:
    """Runs statements one by one as the owner."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=200)
    finally:
        await connection.close()


def lookups_beside(stage: Stage, port: int, paths: list[str]) -> Measured:
    """Looks events up at 8 connections while 30 others ask for these paths in turn."""
    with ThreadPoolExecutor(1) as pool:
        asking = Load(port, "", GREEDY, SECONDS + 2, gets=paths)
        others = pool.submit(stage.work, "bench.clients.load", asking, Measured)
        found = stage.work("bench.clients.load", Load(port, "", OTHERS, SECONDS, gets=LOOKUPS), Measured)
        others.result()
    return found
