"""What Footfall ships for Prometheus and Grafana says something, and no client can make it say more."""

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.drivers.prometheus import OBSERVABILITY, Prometheus, prometheus, selectors
from tests.drivers.raw_http import post
from tests.drivers.rebuilding import rebuild
from tests.patience import PATIENCE, patient
from tests.processes import Process, wait_until
from tests.producing import Raw, produce, start_projector

ODD = 10_000 if "FOOTFALL_LONG" in os.environ else 2_000  # requests
AT_ONCE = 500
DASHBOARDS = sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json"))
PANELS = [
    (f"{board.stem}: {panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "1m"))
    for board in DASHBOARDS
    for panel in json.loads(board.read_text())["panels"]
    for target in panel["targets"]
]


class Watched:
    """A whole Footfall under load, and the Prometheus that watches it."""

    def __init__(self, processes: dict[str, Process], watcher: Prometheus) -> None:
        self.processes, self.watcher = processes, watcher


@pytest.fixture(scope="module")
def watched(shared_footfall: Footfall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    produce(shared_footfall, [Raw(b"poison", b"user-0", 0)])
    processes = {
        "projector": start_projector(shared_footfall),
        # uvicorn would take it for its own number of workers.
        "command-side": shared_footfall.start("command-side", ready=False, WEB_CONCURRENCY="3"),
        "query-side": shared_footfall.start("query-side", ready=False),
    }
    wait_until(lambda: all(answers(process) for process in processes.values()), 30, "the processes")
    asyncio.run(requests_to(processes["command-side"], [post(f"user-{n}") for n in range(200)]))
    rebuild(shared_footfall, "start")
    with prometheus(tmp_path_factory.mktemp("prometheus"), {k: [p.url] for k, p in processes.items()}) as watcher:
        yield Watched(processes, watcher)


def answers(process: Process) -> bool:
    try:
        return httpx.get(f"{process.url}/health/ready", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


async def requests_to(process: Process, requests: list[bytes]) -> None:
    """Sends requests over one connection, many at once, and reads every answer."""
    where = urlsplit(process.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    for begin in range(0, len(requests), AT_ONCE):
        part = requests[begin : begin + AT_ONCE]
        async with asyncio.timeout(PATIENCE):
            writer.write(b"".join(part))
            answered, rest = 0, b""
            while answered < len(part):
                chunk = await reader.read(1 << 16)
                assert chunk, "the connection was closed"
                rest += chunk
                answered += rest.count(b"HTTP/1.1 ")
                rest = rest[-8:]
    writer.close()
    await writer.wait_closed()  # else the loop ends before, and a later test is blamed


def odd_requests(count: int) -> list[bytes]:
    """Paths, users and types of which no two are alike."""
    paths = [f"GET /odd/{n}?x={n} HTTP/1.1\r\nHost: here\r\n\r\n".encode() for n in range(count // 2)]
    bodies = ({"userId": f"odd-{n}", "eventType": f"TYPE_{n}" if n % 2 else "LOGIN"} for n in range(count // 2))
    return [*paths, *(post(body=json.dumps(body).encode()) for body in bodies)]


def series(process: Process) -> set[str]:
    """The names and labels of everything that a process tells."""
    text = httpx.get(f"{process.url}/metrics", timeout=PATIENCE).text
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_no_series_grows_with_what_clients_send(watched: Watched) -> None:
    command_side, projector = watched.processes["command-side"], watched.processes["projector"]
    asyncio.run(requests_to(command_side, odd_requests(4)))
    before = series(command_side)
    asyncio.run(requests_to(command_side, odd_requests(ODD)))
    assert series(command_side) == before
    assert len(before) < 250
    assert not [line for line in series(projector) if "odd-" in line or "TYPE_" in line]


def test_openmetrics_for_who_accepts_it(watched: Watched) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    for process in watched.processes.values():
        answer = httpx.get(f"{process.url}/metrics", headers=accept, timeout=PATIENCE)
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.text.endswith("# EOF\n")


def test_a_process_is_one_worker_and_what_it_counts_is_all_that_it_did(watched: Watched) -> None:
    """More of them are more processes, each with a port and metrics of its own, which Prometheus adds."""
    side = watched.processes["command-side"]
    assert psutil.Process(side.popen.pid).children() == []

    def published() -> float:
        text = httpx.get(f"{side.url}/metrics", timeout=PATIENCE).text
        return float(re.findall(r"^messages_published_total (\S+)$", text, re.MULTILINE)[0])

    before = published()
    asyncio.run(requests_to(side, [post(f"user-{n}") for n in range(20)]))
    assert published() == before + 20


def test_every_panel_shows_something(watched: Watched) -> None:
    assert len(DASHBOARDS) == 3
    assert len(PANELS) > 40
    until_all_say_something(watched, {asked for _, asked in PANELS})


def until_all_say_something(watched: Watched, asked: set[str]) -> None:
    """Names those that return nothing. Events come meanwhile: without any there is no share of them that fails."""
    deadline = time.monotonic() + patient(20)
    while left := {each for each in asked if not watched.watcher.query(each)}:
        assert time.monotonic() < deadline, f"these return nothing: {left}"
        asked = left
        asyncio.run(requests_to(watched.processes["command-side"], [post("user-0")]))
        time.sleep(0.1)


def test_every_rule_is_evaluated_and_has_something_to_look_at(watched: Watched) -> None:
    rules = watched.watcher.rules()
    names = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)) | {"up"}
    names |= {f"{name}_bucket" for name in names} | {rule["name"] for rule in rules if rule["type"] == "recording"}
    until_all_say_something(watched, {each for rule in rules for each in looked_at(rule, names)})
    wait_until(lambda: {rule["health"] for rule in watched.watcher.rules()} == {"ok"}, 20, "every rule to be evaluated")


def looked_at(rule: dict[str, str], names: set[str]) -> set[str]:
    """What a rule records, or the series that an alert is about."""
    asked = {rule["name"]} if rule["type"] == "recording" else selectors(rule["query"], names)
    assert asked, rule["query"]
    return asked


def test_a_process_that_was_killed_is_seen(watched: Watched) -> None:
    """The last test: what it kills is the others', too."""
    assert not watched.watcher.raised() & {"FootfallDown", "FootfallNotProjecting", "FootfallStuck"}
    watched.processes["projector"].kill()
    wait_until(lambda: {"FootfallDown", "FootfallNotProjecting"} <= watched.watcher.raised(), 20, "the alerts")
