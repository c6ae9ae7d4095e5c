"""The command line as a person meets it: real subprocesses, exit codes, what is said and what is not."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import rich_click as click
from click.testing import CliRunner

from bench.databases import drop_database
from command_side.api.openapi.document import document as command_document
from footfall.cli.called_as import as_called
from footfall.cli.main import cli
from query_side.openapi.document import document as query_document
from tests.conftest import Footfall
from tests.docs_pages import assert_docs_show
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process, is_ready, run_to_end, wait_until
from tests.servers import Servers, at_database
from tests.shipped_types import SHIPPED
from tests.tcp_proxy import tcp_proxy

SECRET = "hunter2"


def footfall(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`footfall <arguments>`, run to its end."""
    return run_to_end(*arguments, environment=environment)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and subcommand, as one types it."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_every_command_has_help() -> None:
    found = list(commands(cli))
    assert {" ".join(path) for path in found} >= {
        "", "up", "demo", "command-side", "query-side", "front", "projector", "migrate", "topics", "topics create",
    }  # fmt: skip
    for path in found:
        run = CliRunner().invoke(cli, [*path, "--help"], prog_name="footfall")
        assert run.exit_code == 0, run.output
        assert f"Usage: footfall {' '.join(path)}".rstrip() in run.output
        assert "--help" in run.output
    run_as_typed = footfall("topics", "create", "--help")
    assert "Usage: python -m footfall topics create" in run_as_typed.stdout


def test_a_command_with_several_forms_shows_examples() -> None:
    with_forms = ["", "up", "demo", "dlq", "dlq list", "dlq redrive", "dlq discard", "gaps list", "gaps accept"]
    for path in [
        *with_forms,
        "rebuild start",
        "rebuild status",
        "rebuild verify",
        "grant-reporter",
        "sql",
        "status",
        "replay",
    ]:
        run = CliRunner().invoke(cli, [*path.split(), "--help"], prog_name="footfall")
        assert re.search(rf"Examples: *\n +footfall {path}", run.output), run.output


def test_a_command_in_a_message_can_be_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "footfall")])
    for command in cli.commands.keys() - {"command-side", "query-side", "front", "projector"}:
        assert as_called(f"First: footfall {command}.") == f"First: {tmp_path}/bin/footfall {command}."
    assert as_called("role footfall is not a reporter") == "role footfall is not a reporter"


def test_the_version_is_the_distributions() -> None:
    run = footfall("--version")
    assert run.returncode == 0
    assert re.search(r"\b\d+\.\d+\.\d+\b", run.stdout)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["command-side", "--port", "99999"], ["topics"], ["migrate", "--nonsense"]]
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    run = footfall(*arguments)
    assert run.returncode == 2
    assert "Usage" in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


@pytest.fixture
def empty_database(real_servers: Servers) -> Iterator[str]:
    """A database without a schema; the owner's URL."""

    async def run(*statements: str) -> None:
        connection = await asyncpg.connect(real_servers.admin_url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run("DROP DATABASE IF EXISTS footfall_cli", "CREATE DATABASE footfall_cli"))
    yield at_database(real_servers.admin_url, "footfall_cli")
    asyncio.run(drop_database(real_servers.admin_url, "footfall_cli"))


def test_migrate_brings_the_schema_and_may_be_repeated(empty_database: str) -> None:
    async def stored() -> int:
        connection = await asyncpg.connect(empty_database)
        count: int = await connection.fetchval("SELECT count(*) FROM read.processed_events")
        await connection.close()
        return count

    for _ in range(2):
        run = footfall("migrate", DATABASE_URL=empty_database)
        assert (run.returncode, run.stdout) == (0, "The schema is at head.\n"), run.stderr
        assert asyncio.run(stored()) == 0


def assert_one_readable_line(run: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert run.returncode == 1
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    assert len(lines) == 1, run.stderr
    assert all(word in lines[0] for word in words)
    assert SECRET not in lines[0]


def test_migrate_without_a_database_is_one_line_and_exit_1(real_servers: Servers) -> None:
    url = f"postgresql://footfall:{SECRET}@127.0.0.1:{free_port()}/footfall"
    assert_one_readable_line(footfall("migrate", DATABASE_URL=url), "The migration failed")


def test_migrate_with_a_wrong_password_is_one_line_and_exit_1(real_servers: Servers) -> None:
    at = urlsplit(real_servers.admin_url)
    url = f"postgresql://{at.username}:{SECRET}@{at.hostname}:{at.port}/footfall"
    assert_one_readable_line(footfall("migrate", DATABASE_URL=url), "The migration failed", "password")


def test_migrate_to_a_revision_that_does_not_exist_is_one_line_and_exit_1(empty_database: str) -> None:
    run = footfall("migrate", "--revision", "nonsense", DATABASE_URL=empty_database)
    assert_one_readable_line(run, "nonsense")


def test_a_database_url_that_is_none_is_one_line_and_exit_1() -> None:
    run = footfall("migrate", DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:port/x")
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert SECRET not in run.stderr


def test_topics_are_created_once(real_servers: Servers) -> None:
    topic = f"cli-{os.getpid()}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": real_servers.kafka,
        "KAFKA_TOPIC": topic,
        "KAFKA_DLQ_TOPIC": f"{topic}-dlq",
        "KAFKA_AUDIT_TOPIC": f"{topic}-audit",
        "KAFKA_PARTITIONS": "3",
    }
    for outcome in ("created", "exists"):
        run = footfall("topics", "create", **environment)
        said = "".join(f"{name}: {outcome}\n" for name in (topic, f"{topic}-dlq", f"{topic}-audit"))
        assert (run.returncode, run.stdout, run.stderr) == (0, said, "")


def test_topics_that_the_broker_refuses_are_one_line_and_exit_1(real_servers: Servers) -> None:
    run = footfall(
        "topics", "create", KAFKA_BOOTSTRAP_SERVERS=real_servers.kafka, KAFKA_TOPIC="x", KAFKA_REPLICATION_FACTOR="9"
    )
    assert_one_readable_line(run, "The topics were not created", "Replication")


def test_topics_without_a_broker_are_one_line_and_exit_1() -> None:
    run = footfall("topics", "create", KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    assert_one_readable_line(run, "The topics were not created")


@pytest.mark.parametrize(
    ("command", "name"), [("command-side", "kafka"), ("query-side", "postgres"), ("projector", "postgres")]
)
def test_each_process_runs_alone(footfall: Footfall, command: str, name: str) -> None:
    process = footfall.start(command)
    ready = httpx.get(f"{process.url}/health/ready").json()
    assert ready["side"] == command
    assert ready["dependencies"][name]["ok"] is True
    assert "messages_published_total" in httpx.get(f"{process.url}/metrics").text
    assert process.terminate() == 0
    assert "Traceback" not in process.log_text()


def test_the_front_serves_both_sides_on_one_port(footfall: Footfall) -> None:
    footfall.start("projector")
    front = footfall.start("front")
    with httpx.Client(base_url=front.url) as client:
        answer = client.post("/events/generate", json={"userId": "user-1", "eventType": "LOGIN"})
        assert answer.status_code == 201
        event = answer.json()["event"]
        wait_until(lambda: client.get(f"/events/{event['eventId']}").status_code == 200, 15, "the event to be visible")
        assert client.get("/events/processed").json() == [event]
        assert client.get("/events/generate").status_code == 405
        assert set(client.get("/health").json()["dependencies"]) == {"kafka", "postgres"}
        assert client.get("/nowhere").json()["error"] == "Not found"
    documents = {
        "/openapi/command-side.json": command_document(SHIPPED),
        "/openapi/query-side.json": query_document(SHIPPED),
    }
    assert_docs_show(front.url, documents)
    assert front.terminate() == 0


@pytest.mark.parametrize(
    "command",
    ["query-side", "front", "projector"],
)
def test_without_postgresql_a_process_exits_1_with_a_readable_line(footfall: Footfall, command: str) -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/x"
    process = footfall.start(command, ready=False, DATABASE_URL=url, STARTUP_TIMEOUT_MS="0")
    assert process.popen.wait(PATIENCE) == 1
    said = process.log_text()
    assert "Traceback" not in said
    assert "Connection refused" in said or "Connect call failed" in said
    assert len(said.splitlines()) <= 4  # two of them aiokafka's: each of our two connections says it
    assert SECRET not in said


@pytest.mark.parametrize("command", ["front", "projector"])
def test_without_kafka_a_process_exits_1_with_a_readable_line(footfall: Footfall, command: str) -> None:
    away = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "STARTUP_TIMEOUT_MS": "0"}
    process = footfall.start(command, ready=False, **away)
    assert process.popen.wait(PATIENCE) == 1
    said = process.log_text()
    assert "Traceback" not in said
    assert "Kafka" in said, said
    assert len(said.splitlines()) <= 5, said  # the last one says it; before it, aiokafka and what was tried


def test_a_port_that_is_taken_is_exit_1_and_a_line_that_says_so(shared_footfall: Footfall) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = footfall(
            "query-side", "--port", str(taken.getsockname()[1]), DATABASE_URL=shared_footfall.servers.query_url
        )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "address already in use" in run.stderr


def waits(process: Process) -> bool:
    """Whether it has said that it waits for a server; fails at once when the process has ended."""
    assert process.popen.poll() is None, process.log_text()
    return "waits_for_server" in process.log_text()


@pytest.mark.parametrize("command", ["query-side", "projector"])
def test_a_process_waits_for_postgresql_says_so_and_begins_once_it_is_there(footfall: Footfall, command: str) -> None:
    servers = footfall.servers
    url = servers.projector_url if command == "projector" else servers.query_url
    at = urlsplit(url)
    with tcp_proxy(str(at.hostname), at.port or 5432) as proxy:
        proxy.cut()
        process = footfall.start(command, ready=False, DATABASE_URL=proxy.in_front_of(url))
        wait_until(lambda: waits(process), 60, "it to say that it waits")
        assert '"PostgreSQL"' in process.log_text()
        proxy.mend()
        wait_until(lambda: is_ready(process), 60, "it to begin")
        assert process.terminate(30) == 0


@pytest.mark.parametrize("command", ["command-side", "front", "projector"])
def test_a_process_waits_for_kafka_says_so_and_begins_once_it_is_there(footfall: Footfall, command: str) -> None:
    host, _, port = footfall.servers.kafka.rpartition(":")
    with tcp_proxy(host, int(port)) as proxy:
        proxy.cut()
        behind = f"127.0.0.1:{proxy.port}"
        process = footfall.start(command, ready=False, KAFKA_BOOTSTRAP_SERVERS=behind)
        wait_until(lambda: waits(process), 60, "it to say that it waits")
        assert '"Kafka"' in process.log_text()
        proxy.mend()
        wait_until(lambda: is_ready(process), 60, "it to begin")
        assert process.terminate(30) == 0
        assert "Traceback" not in process.log_text()


@pytest.mark.parametrize("command", ["command-side", "projector"])
def test_a_process_waits_for_kafka_as_long_as_it_is_told_and_ends_with_a_sentence(
    footfall: Footfall, command: str
) -> None:
    away = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "STARTUP_TIMEOUT_MS": "1200"}
    process = footfall.start(command, ready=False, **away)
    assert process.popen.wait(PATIENCE) == 1
    said = process.log_text()
    first, *_, last = (line for line in said.splitlines() if "Kafka" in line)
    assert "waits_for_server" in first
    assert '"seconds_left": 1' in first
    assert "it cannot be reached" in last
    assert "waits_for_server" not in last, said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["query-side", "front", "projector"])
def test_a_process_that_waits_for_a_server_ends_at_once_when_it_is_asked_to(footfall: Footfall, command: str) -> None:
    away = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    if command != "front":
        away["DATABASE_URL"] = f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/x"
    process = footfall.start(command, ready=False, **away)
    wait_until(lambda: waits(process), 60, "it to say that it waits")
    assert process.terminate(30) == 0
    assert "Traceback" not in process.log_text()
    assert len(process.log_text().splitlines()) <= 8, process.log_text()
