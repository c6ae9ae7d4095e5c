"""Measures what one tenant's lookups notice of another tenant that asks as fast as thirty connections can.

The limit is the same load at a query side of its own: what is noticed then is the machine's, which both have to share
with the database and the generators of the load.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from bench.clients.load import Load, Measured
from bench.commands.door import keys_for
from bench.commands.greedy import GREEDY, executed
from bench.projecting.drain import fresh_database
from bench.reads.read import query_side
from bench.reads.stored import USERS, fill
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError

SECONDS = 6.0  # of each measurement
CONNECTIONS = 2  # of the quiet tenant: it asks for less than half of what the process can do
STORED = 100_000  # events of each tenant
TOPIC = "bench-noisy-keys"
QUIET, NOISY = "quiet", "noisy"
COLUMNS = "kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, user_id, event_type, payload, event_json"
COPY = """
INSERT INTO read_g1.processed_events ({columns}, kafka_topic, tenant_id)
SELECT {columns}, 'of-{tenant}', '{tenant}' FROM read_g1.processed_events WHERE tenant_id = 'default'
"""
LOOKUPS = [f"/events/01980000-0000-7000-8000-{n * 997 % STORED:012x}" for n in range(500)]
PAGES = [f"/events/processed?userId=user-{n * 37 % USERS}&limit=100" for n in range(500)]
KINDS = {"lookups": LOOKUPS, "pages": PAGES}


def noisy_tenant(stage: Stage) -> list[Result]:
    """p99 of a tenant's lookups beside another's 30 connections: at the same process, at another, and with nobody."""
    url = fresh_database(stage, stage.stack.admin_url)
    fill(url, 0, STORED)
    copies = [COPY.format(columns=COLUMNS, tenant=tenant) for tenant in (QUIET, NOISY)]
    asyncio.run(executed(url, *copies, "VACUUM ANALYZE read_g1.processed_events"))
    shown = asyncio.run(keys_for(stage.stack.kafka_bootstrap, TOPIC, [QUIET, NOISY]))
    keys: dict[str, str] = dict(zip((QUIET, NOISY), shown, strict=True))
    settings = {"AUTH": "keys", "KAFKA_KEYS_TOPIC": TOPIC}
    alone: list[Measured] = []
    beside: dict[str, list[Measured]] = {kind: [] for kind in KINDS}
    apart: dict[str, list[Measured]] = {kind: [] for kind in KINDS}
    with query_side(stage, **settings) as (port, _), query_side(stage, **settings) as (other, _):
        for each in (port, other):
            wait_for_keys(each, keys[QUIET])
        for run in range(stage.runs):
            alone.append(quiet(stage, port, keys))
            for kind, paths in KINDS.items():
                beside[kind].append(quiet_beside(stage, (port, port), keys, paths))
                apart[kind].append(quiet_beside(stage, (port, other), keys, paths))
            figures = "".join(
                f", {beside[kind][-1].p99:.1f} ms beside {kind} ({apart[kind][-1].p99:.1f} at another process)"
                for kind in KINDS
            )
            stage.say(f"lookups of one tenant, run {run + 1}/{stage.runs}: p99 {alone[-1].p99:.1f} ms alone{figures}")
    found = [alone, *beside.values(), *apart.values()]
    errors = sum(one.errors for each in found for one in each)
    return [
        *(row for kind in KINDS for row in rows_of(kind, alone, beside[kind], apart[kind])),
        absolute("errors_beside_a_noisy_tenant", "errors", [errors], ("==", 0)),
    ]


def rows_of(kind: str, alone: list[Measured], beside: list[Measured], apart: list[Measured]) -> list[Result]:
    """The p99s beside one kind of load."""
    name, (none, same, other) = f"lookup_p99_beside_a_tenants_{kind}", (p99s(alone), p99s(beside), p99s(apart))
    return [
        compared(name, "ms", same, "nobody beside", none, ("<=", 2)),
        compared(f"{name}_vs_apart", "ms", same, "at another process", other, ("<=", 1.5)),
    ]


def p99s(measured: list[Measured]) -> list[float]:
    """The p99 of each, ms."""
    return [one.p99 for one in measured]


def wait_for_keys(port: int, key: str) -> None:
    """Returns once the process knows the keys."""
    deadline = time.monotonic() + 60
    headers = {"Authorization": f"Bearer {key}"}
    while httpx.get(f"http://127.0.0.1:{port}{LOOKUPS[0]}", headers=headers).status_code != 200:
        if time.monotonic() > deadline:
            raise StageError("the query side did not learn of the keys")
        time.sleep(0.1)


def quiet(stage: Stage, port: int, keys: dict[str, str]) -> Measured:
    """Looks events up as the quiet tenant, at 2 connections."""
    return stage.work(
        "bench.clients.load", Load(port, "", CONNECTIONS, SECONDS, gets=LOOKUPS, key=keys[QUIET]), Measured
    )


def quiet_beside(stage: Stage, ports: tuple[int, int], keys: dict[str, str], paths: list[str]) -> Measured:
    """The same while the other tenant asks for these paths at 30 connections. `ports`: of the one, and of the other."""
    port, others_port = ports
    with ThreadPoolExecutor(1) as pool:
        noisy = Load(others_port, "", GREEDY, SECONDS + 2, gets=paths, key=keys[NOISY])
        others = pool.submit(stage.work, "bench.clients.load", noisy, Measured)
        found = quiet(stage, port, keys)
        others.result()
    return found
