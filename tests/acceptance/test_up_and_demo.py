"""`footfall up` and `footfall demo` as a stranger runs them: whole programs, on real servers of their own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from footfall.local.demo.account import Account
from footfall.local.demo.report import verdict
from footfall.local.demo.traffic import a_day_of_traffic
from tests.patience import PATIENCE, patient
from tests.ports import free_port
from tests.processes import wait_until


def said(command: list[str]) -> str:
    """What it prints, run without any of our settings; it must succeed."""
    ours = ("DATABASE_URL", "REPORTING_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    run = subprocess.run(
        command,
        env={**environment, "ENVIRONMENT": "test"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # Not below pytest's own directory: as root, PostgreSQL runs as another user, who may not enter it.
    with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
        yield Path(directory) / "state"


def footfall(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "footfall", *arguments]


def in_the_background(output: Path, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
    """As a script starts it with &: SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with output.open("w") as file:
            settings = {**os.environ, **environment}
            return subprocess.Popen(footfall(*arguments), stdout=file, stderr=subprocess.STDOUT, env=settings)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_demo_accounts_for_every_event_and_ends_by_itself_or_is_kept(state_dir: Path, tmp_path: Path) -> None:
    sizes = ("--events", "600", "--users", "40", "--connections", "16", "--seed", "7")
    run = subprocess.run(
        footfall("demo", "--state-dir", str(state_dir), "--port", str(free_port()), *sizes),
        capture_output=True,
        text=True,
        timeout=patient(150),
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for line in (
        r"sent over HTTP\s+│ 800",
        r"in batches\s+│ \d+ events in \d+ requests; the others one by one",
        r"accepted \(201\)\s+│ 600",
        r"rejected \(400\)\s+│ 200 of 200 invalid",
        r"projected\s+│ 600",
        r"duplicates skipped\s+│ 200 of 200",
        r"malformed \w+\s+│ 50 of 50",
        r"POST to 201\s+│ p50 [0-9.]+ ms\s+p99 [0-9.]+ ms\s+beside the batches",
        r"POST to 201\s+│ p50 [0-9.]+ ms\s+p99 [0-9.]+ ms\s+with nothing beside it",
        r"201 to visible\s+│ p50 [0-9.]+ ms\s+p99 [0-9.]+ ms",
        r"accepted = projected: 600 events",
    ):
        assert re.search(line, run.stdout), f"{line}\n{run.stdout}"
    assert len(re.findall(r'^  \{"eventId":', run.stdout, re.MULTILINE)) == 3
    assert "footfall demo --keep" in run.stdout
    is_kept_until_ctrl_c(state_dir, tmp_path / "output")


def is_kept_until_ctrl_c(state_dir: Path, output: Path) -> None:
    """With the data of the day before and of this one, as the console shows; this one's log is sealed."""
    sizes = ("--events", "10", "--users", "3", "--connections", "2")
    kept = in_the_background(
        output, "demo", "--keep", "--state-dir", str(state_dir), "--port", str(free_port()), *sizes, PRIVACY="sealed"
    )
    try:
        wait_until(lambda: "Ctrl-C" in output.read_text() or kept.poll() is not None, 90, "the demo to be kept")
        said = output.read_text()
        (console,) = re.findall(r"^Console (\S+)$", said, re.MULTILINE)
        (front,) = re.findall(r"^Front (\S+)$", said, re.MULTILINE)
        assert httpx.get(f"{front}/console").headers["location"] == console
        assert "Users" in httpx.get(f"{console}/activity").text
        looked: Callable[[], bool] = lambda: "the tenant keys are its own" in httpx.get(console).text  # noqa: E731
        wait_until(looked, 30, "the console to look at the key store")
        assert len(httpx.get(f"{front}/events/processed").json()) == 610
        assert_sealed(state_dir, front)
        family = psutil.Process(kept.pid).children(recursive=True)
        kept.send_signal(signal.SIGINT)
        assert kept.wait(PATIENCE) == 0, output.read_text()
        assert output.read_text().endswith("Stopped.\n")
        assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    finally:
        kept.kill()
        kept.wait(PATIENCE)


def assert_sealed(state_dir: Path, front: str) -> None:
    """What is posted is answered as ever, stands sealed in the log, and its user is erased with the key."""
    command = {"userId": "alice", "eventType": "LOGIN", "payload": {"note": "x"}}
    event = httpx.post(f"{front}/events/generate", json=command).json()["event"]
    assert {name: event[name] for name in command} == command
    wait_until(lambda: httpx.get(f"{front}/users/alice/events").json() == [event], 20, "the event to be projected")
    assert (state_dir / "tenant-keys").stat().st_mode & 0o077 == 0
    told = json.loads(said(footfall("privacy", "erase", "alice", "--yes", "--json", "--state-dir", str(state_dir))))
    assert told["done"]
    assert any("keys are destroyed" in sentence for sentence in told["remains"])
    assert httpx.get(f"{front}/users/alice/events").json() == []


@pytest.mark.skipif(not os.environ.get("FOOTFALL_LONG"), reason="FOOTFALL_LONG=1: the demo seals in the same way")
def test_up_seals_the_log_with_one_setting(state_dir: Path, tmp_path: Path) -> None:
    output, port = tmp_path / "output", str(free_port())
    ports = ("--port", port, "--projector-port", str(free_port()))
    up = in_the_background(output, "up", "--state-dir", str(state_dir), *ports, PRIVACY="sealed")
    try:
        wait_until(lambda: "/events/processed" in output.read_text() or up.poll() is not None, 90, "up to be ready")
        assert_sealed(state_dir, f"http://127.0.0.1:{port}")
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0, output.read_text()
    finally:
        up.kill()
        up.wait(PATIENCE)


def test_a_demo_that_misses_an_event_says_which_and_is_not_exact() -> None:
    account = Account(accepted={"id-1": b"{}", "id-2": b"{}"}, projected=1, missing=["id-2"])
    assert not account.exact()
    assert "id-2" in verdict(account)
    doubled = Account(accepted={"id-1": b"{}"}, projected=2)
    assert not doubled.exact()
    assert not Account().exact()  # nothing sent proves nothing


def test_the_same_seed_makes_the_same_day() -> None:
    assert a_day_of_traffic(500, 30, seed=3) == a_day_of_traffic(500, 30, seed=3)
    assert a_day_of_traffic(500, 30, seed=3) != a_day_of_traffic(500, 30, seed=4)
    assert len(a_day_of_traffic(5_000, 3, seed=1)) == 5_000


def test_up_prints_commands_that_work_and_ends_on_ctrl_c(state_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    probes = free_port()
    ports = ("--port", str(free_port()), "--projector-port", str(probes))
    up = in_the_background(output, "up", "--state-dir", str(state_dir), *ports, "--projectors", "2")
    try:
        wait_until(lambda: "/events/processed" in output.read_text() or up.poll() is not None, 90, "up to be ready")
        post, get = re.findall(r"^curl (?:.*\\\n)*.*$", output.read_text(), re.MULTILINE)
        _, _, url, _, header, _, body = shlex.split(post.replace("\\\n", " "))
        accepted = httpx.post(url, content=body, headers=dict([header.split(": ")]))
        assert accepted.status_code == 201
        event = accepted.json()["event"]
        *_, list_url = shlex.split(get)
        wait_until(lambda: httpx.get(list_url).json() == [event], 20, "the event to be projected")
        (ask,) = re.findall(r"^(\S+ -m footfall sql .*)$", output.read_text(), re.MULTILINE)
        query = ["--csv", "-c", "SELECT user_id, product_views FROM users"]
        assert said([*shlex.split(ask), *query]) == "user_id,product_views\nuser-1,1\n"
        here = ("--state-dir", str(state_dir))
        commands = ("replay", "status --json", "dlq list --json", "rebuild status --json", "topics create", "migrate")
        with ThreadPoolExecutor() as pool:
            replayed, status, letters, rebuilds, topics, schema = pool.map(
                lambda command: said(footfall(*command.split(), *here)), commands
            )
        assert replayed.count(event["eventId"]) == 1
        assert '"name":"read_g1"' in status
        assert letters == '{"count":0,"letters":[]}\n'
        assert "read_g1" in rebuilds
        assert "exists" in topics
        assert "head" in schema
        assert httpx.get(f"http://127.0.0.1:{probes}/health/live").json()["side"] == "projector"
        copied = {**os.environ, "SINK_DUCKDB_FILE": str(tmp_path / "events.duckdb")}
        with (tmp_path / "sink").open("w+") as log:
            sink = subprocess.Popen(
                footfall("sink", "duckdb", "--port", "0", *here), env=copied, stdout=log, stderr=log
            )
            wait_until(lambda: "sink_begins" in (tmp_path / "sink").read_text(), 20, "a sink to find its servers")
            sink.terminate()
            assert sink.wait(PATIENCE) == 0
        family = psutil.Process(up.pid).children(recursive=True)
        assert len(family) >= 5  # Kafka, PostgreSQL, two projectors, the front
        second = subprocess.run(
            footfall("up", "--state-dir", str(state_dir)), capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert str(up.pid) in second.stderr
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0
        assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    finally:
        up.kill()
        up.wait(PATIENCE)


@pytest.mark.skipif(
    not os.environ.get("FOOTFALL_LONG"),
    reason="FOOTFALL_LONG=1: its short form is tests/integration/test_a_position_belongs_to_one_history.py",
)
@pytest.mark.timeout(patient(300))
def test_up_names_a_log_that_was_wiped_and_its_remedy_leads_on(state_dir: Path, tmp_path: Path) -> None:
    """PostgreSQL has kept the old events, and Kafka nothing: never both in one answer (docs/stops.md)."""
    front, here = f"http://127.0.0.1:{(port := free_port())}", ("--state-dir", str(state_dir))
    begin = ("up", *here, "--port", str(port), "--projector-port", str(free_port()))
    up, output = in_the_background(tmp_path / "before", *begin), tmp_path / "after"
    try:
        wait_until(lambda: "/events/processed" in (tmp_path / "before").read_text(), 90, "up to be ready")
        old = posted(front)
        wait_until(lambda: visible(front) == old, 60, "the old history to be visible")
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0
        shutil.rmtree(state_dir / "kafka")
        up = in_the_background(output, *begin)
        wait_until(lambda: "/events/processed" in output.read_text() or up.poll() is not None, 90, "up to be ready")
        assert up.poll() is None, output.read_text()
        assert re.search(
            r"^Not every new event .* another_history: .*`footfall rebuild start`", output.read_text(), re.MULTILINE
        )
        new = posted(front)
        health = httpx.get(f"{front}/health").json()
        assert health["status"] == "ok"
        assert re.match(
            r"6 partitions have stopped: their new events are not visible. Partition 0: another_history: ",
            health["dependencies"]["postgres"]["detail"],
        )
        assert visible(front) == old
        said(footfall("rebuild", "start", *here))
        said(footfall("rebuild", "promote", "--force", *here))
        wait_until(lambda: visible(front) == new, 60, "the new history to be visible")
        wait_until(
            lambda: httpx.get(f"{front}/health").json()["dependencies"]["postgres"]["detail"] == "",
            60,
            "the front's health to have nothing to say",
        )
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0
    finally:
        up.kill()
        up.wait(PATIENCE)


def posted(front: str) -> set[str]:
    """The ids of events in every partition."""
    commands = [{"userId": f"user-{n}", "eventType": "LOGIN", "payload": {}} for n in range(40)]
    answer = httpx.post(f"{front}/events/generate/batch", json=commands)
    assert answer.status_code == 201
    return {result["event"]["eventId"] for result in answer.json()["results"]}


def visible(front: str) -> set[str]:
    return {event["eventId"] for event in httpx.get(f"{front}/events/processed").json()}
