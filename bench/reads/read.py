"""Compares pages with a bare asyncpg page, a full export with COPY, and the JSON array with a bare fetch."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import psutil

from bench.clients.load import Load, Measured
from bench.projecting.drain import fresh_database, in_database
from bench.reads.stored import USERS, fill, moment
from bench.result import Result, absolute, compared
from bench.stage import Stage, free_port
from query_side.events.queries import ALL_EVENTS

SECONDS = 4.0  # of each measurement of pages
CONNECTIONS = 32
MILLION, ARRAY = 1_000_000, 100_000
PATHS = {
    "user": [f"/events/processed?userId=user-{n * 37 % USERS}&limit=100" for n in range(500)],
    "time": [f"/events/processed?from={moment(n * 1_999 % MILLION)}&limit=100" for n in range(500)],
    "first": [f"/events/processed?from={moment(0)}&limit=100"],
    "far": [f"/events/processed?from={moment(MILLION - 200)}&limit=100"],
}
BARE = "bare ASGI + asyncpg, same SQL"
PROCESSED = "/events/processed"


def read(stage: Stage) -> list[Result]:
    """Pages of 100 by user and by time, page 10,000, the export of 1,000,000 events and the array of 100,000."""
    url = fresh_database(stage, stage.stack.admin_url)
    stage.say("filling the read model")
    fill(url, 0, ARRAY)
    with query_side(stage) as (ours, process), bare_pages(stage) as bare:
        results = array(stage, ours, bare)
        fill(url, ARRAY, MILLION)
        results += page_rates(stage, ours, bare)
        return results + export(stage, ours, process)


def page_rates(stage: Stage, ours: int, bare: int) -> list[Result]:
    """Measures requests/s and p99 at 32 connections, in turn with the bare application."""
    measured: dict[str, list[Measured]] = {}
    for run in range(stage.runs):
        for name, port, paths in (
            ("user", ours, "user"), ("bare user", bare, "user"), ("time", ours, "time"), ("bare time", bare, "time"),
            ("first", ours, "first"), ("far", ours, "far"),
        ):  # fmt: skip
            found = stage.work("bench.clients.load", Load(port, "", CONNECTIONS, SECONDS, gets=PATHS[paths]), Measured)
            measured.setdefault(name, []).append(found)
        figures = ", ".join(f"{name} {found[-1].per_second:,.0f}" for name, found in measured.items())
        stage.say(f"pages of 100, run {run + 1}/{stage.runs}: {figures} requests/s")
    rates = {name: [one.per_second for one in found] for name, found in measured.items()}
    p99 = {name: [one.p99 for one in found] for name, found in measured.items()}
    return [
        compared("page_by_user", "requests/s", rates["user"], BARE, rates["bare user"], (">=", 0.8)),
        compared("page_by_time", "requests/s", rates["time"], BARE, rates["bare time"], (">=", 0.8)),
        compared("page_by_user_p99", "ms", p99["user"], BARE, p99["bare user"], ("<=", 2.5)),
        compared("page_by_time_p99", "ms", p99["time"], BARE, p99["bare time"], ("<=", 2.5)),
        compared("page_10_000", "requests/s", rates["far"], "page 1", rates["first"], (">=", 0.9)),
        absolute("page_errors", "errors", [sum(one.errors for found in measured.values() for one in found)], ("==", 0)),
    ]


def export(stage: Stage, ours: int, process: int) -> list[Result]:
    """Measures bytes/s of all events as NDJSON, in turn with COPY of the same query, and the memory that it needs."""
    rates, bare, grown = [], [], []
    for run in range(stage.runs):
        with watched(process) as memory:
            size, seconds = download(ours, PROCESSED, "application/x-ndjson")
        rates.append(size / seconds / 1e6)
        grown.append((max(memory) - memory[0]) / 2**20)
        bare.append(asyncio.run(copied(in_database(stage.stack.query_url, "bench"))) / 1e6)
        stage.say(
            f"export, run {run + 1}/{stage.runs}: {rates[-1]:.0f} MB/s, COPY {bare[-1]:.0f} MB/s, + {grown[-1]:.0f} MiB"
        )
    return [
        compared("export_ndjson", "MB/s", rates, "asyncpg COPY TO STDOUT", bare, (">=", 0.5)),
        absolute("export_memory", "MiB", [max(grown)], ("<=", 64)),
    ]


def array(stage: Stage, ours: int, bare: int) -> list[Result]:
    """Measures the seconds for 100,000 events as one JSON array, in turn with the bare application."""
    mine, theirs = [], []
    for run in range(stage.runs):
        mine.append(download(ours, PROCESSED, "*/*")[1])
        theirs.append(download(bare, "/array", "*/*")[1])
        stage.say(f"array of {ARRAY:,}, run {run + 1}/{stage.runs}: {mine[-1]:.2f} s, bare {theirs[-1]:.2f} s")
    return [compared("json_array_100_000", "s", mine, BARE, theirs, ("<=", 1.0))]


@contextmanager
def query_side(stage: Stage, **settings: str) -> Iterator[tuple[int, int]]:
    """Runs one worker of the query side during the body; yields its port and process id."""
    port = free_port()
    environment = {"DATABASE_URL": in_database(stage.stack.query_url, "bench"), **settings}
    with stage.process(
        "query-side", "footfall", "query-side", "--port", str(port), port=port, environment=environment
    ) as process:
        yield port, process.pid


@contextmanager
def bare_pages(stage: Stage) -> Iterator[int]:
    """Runs one worker of the reference during the body; yields its port."""
    port = free_port()
    environment = {"DATABASE_URL": in_database(stage.stack.query_url, "bench")}
    with stage.process("bare-pages", "bench.references.pages", str(port), port=port, environment=environment):
        yield port


def download(port: int, path: str, accept: str) -> tuple[int, float]:
    """Reads a whole answer and discards it; returns its size in bytes, and the seconds that it took."""
    started, size, buffer = time.perf_counter(), 0, bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port), 120) as connection:
        head = f"GET {path} HTTP/1.1\r\nhost: here\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        while received := connection.recv_into(buffer):
            if not size and not buffer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{path} was answered {bytes(buffer[:received])!r}")
            size += received
    return size, time.perf_counter() - started


async def copied(url: str) -> float:
    """Returns the bytes/s of COPY (the same query) TO STDOUT through asyncpg; the bytes are discarded."""
    size = 0

    async def count(data: bytes) -> None:
        nonlocal size
        size += len(data)

    connection = await asyncpg.connect(url)
    try:
        started = time.perf_counter()
        await connection.copy_from_query(ALL_EVENTS, "default", output=count, format="text", timeout=200)
        return size / (time.perf_counter() - started)
    finally:
        await connection.close()


@contextmanager
def watched(process: int) -> Iterator[list[int]]:
    """Samples the resident bytes of a process every 50 ms during the body; the first sample is from before it."""
    watched_process, ended = psutil.Process(process), threading.Event()
    samples = [watched_process.memory_info().rss]

    def sample() -> None:
        while not ended.wait(0.05):
            samples.append(watched_process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
