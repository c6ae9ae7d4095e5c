"""A sink whose engine refuses, or comes back as another: nothing is lost or twice or blamed, and it is said."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from click.testing import CliRunner

from contracts.record import key_of
from contracts.versions import encode_event
from footfall.cli.main import cli
from sinks.target import TargetAwayError
from sinks.targets.duckdb_file import DuckDbFile
from tests.conftest import Footfall
from tests.drivers.search_stand_in import STREAM, Answer, Streams, search_stand_in
from tests.drivers.sinks import EventsById, start_sink, told, wait_for_sink
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, logged, produce, record_of, some_records, sql

READ_ONLY = "cluster_block_exception"
UNTAKEN = "es_rejected_execution_exception"
# What the engine, or something before it, answers to everything, or of half of a bulk; and what health says of it.
REFUSALS: list[tuple[Answer | None, tuple[int, str] | None, str]] = [
    ((401, {"error": {"type": "security_exception"}}), None, "refuses: 401 security_exception"),
    ((403, {"error": {"type": READ_ONLY}}), None, f"refuses: 403 {READ_ONLY}"),
    ((404, {"message": "no route matched"}), None, "does not tell which streams it has"),
    ((429, {"error": {"type": UNTAKEN}}), None, f"does not take it now: 429 {UNTAKEN}"),
    ((200, b"<html>Please sign in.</html>"), None, "does not tell which streams it has"),
    (None, (429, UNTAKEN), f"does not take it now: 429 {UNTAKEN}"),
    (None, (403, READ_ONLY), f"refuses: 403 {READ_ONLY}"),
    (None, (404, "index_not_found_exception"), "refuses: 404 index_not_found_exception"),
]


def told_by(streams: Streams) -> EventsById:
    found: EventsById = {}
    for documents in streams.documents.values():
        found |= {(one["tenant_id"], name): _told(one) for name, one in documents.items()}
    return found


def _told(document: dict[str, Any]) -> tuple[Any, ...]:
    moment = datetime.fromisoformat(document["@timestamp"]).astimezone(UTC).replace(tzinfo=None)
    return document["user_id"], document["event_type"], moment, document["payload"]


def of_acme() -> Raw:
    return Raw(encode_event(an_event("eve", tenant_id="acme")), key_of("acme", "eve"))


def said_of_the_target(sink: Process) -> str:
    """What health says of the engine; "" if it is well."""
    return str(httpx.get(f"{sink.url}/health/ready").json()["dependencies"]["target"]["detail"])


def test_an_engine_that_refuses_is_waited_for_and_blames_no_record(footfall: Footfall) -> None:
    with search_stand_in() as (url, streams):
        sink = start_sink(footfall, "opensearch", {"SINK_URL": url, "BATCH_MAX_RECORDS": "50"})
        for whole, half, said in REFUSALS:
            was, streams.refuses, streams.refuses_half = streams.refused, whole, half
            produce(footfall, some_records(120))
            wait_until(lambda said=said: said in said_of_the_target(sink), PATIENCE, f"health to say: {said}")  # type: ignore[misc]
            wait_until(lambda was=was: streams.refused > was + 3, PATIENCE, "it to be tried again")  # type: ignore[misc]
            assert httpx.get(f"{sink.url}/health/ready").status_code == 503
            streams.refuses = streams.refuses_half = None
            wait_for_sink(footfall, "sink_opensearch")
            wait_until(lambda: not said_of_the_target(sink), PATIENCE, "health to say that it is well")
        assert told_by(streams) == told(footfall)
        assert sql(footfall.servers, "SELECT * FROM sink_opensearch.dead_letters") == []
        assert len(logged(sink, "sink_begins")) == 1
        assert sink.terminate() == 0


def test_a_mapping_that_takes_one_user_not_is_that_users_fault_and_one_that_takes_nobody_is_the_engines(
    footfall: Footfall,
) -> None:
    with search_stand_in() as (url, streams):
        settings = {"SINK_URL": url, "BATCH_MAX_RECORDS": "50"}
        sink = start_sink(footfall, "opensearch", settings)
        produce(footfall, some_records(60))
        wait_for_sink(footfall, "sink_opensearch")
        streams.is_bad = lambda document: document["user_id"] == "odd"
        produce(footfall, [record_of(an_event("odd")), *some_records(60), record_of(an_event("odd"))])
        wait_for_sink(footfall, "sink_opensearch")
        letters = "SELECT cause FROM sink_opensearch.dead_letters WHERE state = 'parked'"
        assert [row["cause"] for row in sql(footfall.servers, letters)] == ["poison", "poison"]

        was, streams.is_bad = streams.refused, lambda _document: True  # somebody has changed the template
        produce(footfall, some_records(60))
        wait_until(lambda: streams.refused > was + 120, PATIENCE, "each document, and one that is stored, to be tried")
        streams.is_bad = lambda _document: False
        wait_for_sink(footfall, "sink_opensearch")
        assert len(sql(footfall.servers, letters)) == 2
        assert sink.terminate() == 0
        given = {
            "ENVIRONMENT": "test",
            "DATABASE_URL": footfall.servers.admin_url,
            **footfall.environment(),
            **settings,
        }
        redriven = CliRunner().invoke(cli, ["dlq", "redrive", "--sink", "opensearch"], env=given)
        assert redriven.exit_code == 0, redriven.output
        assert sql(footfall.servers, letters) == []
        assert told_by(streams) == told(footfall)


@pytest.mark.parametrize("fate", ["deleted", "made anew", "another cluster", "a tenant's"])
def test_an_engine_that_comes_back_without_the_events_is_noticed_and_gets_them(footfall: Footfall, fate: str) -> None:
    settings = {"BATCH_MAX_RECORDS": "50"}
    with search_stand_in() as (url, streams):
        settings["SINK_URL"] = url
        sink = start_sink(footfall, "opensearch", settings)
        for _ in range(2):  # a tenant's stream is looked at with the next batch
            produce(footfall, [*some_records(100), of_acme()])
            wait_for_sink(footfall, "sink_opensearch")
        match fate:
            case "deleted":
                streams.lose(STREAM)
            case "made anew":
                streams.make_anew()
            case "another cluster":
                streams.lose()
            case _:
                streams.lose(f"{STREAM}.acme")
        produce(footfall, some_records(100))
        assert sink.popen.wait(PATIENCE) == 1
        assert "is not the stream that it was" in sink.log_text()
        sink = start_sink(footfall, "opensearch", settings)  # as a supervisor does
        assert len(logged(sink, "sink_begins")) == 1
        wait_for_sink(footfall, "sink_opensearch")
        assert told_by(streams) == told(footfall)
        assert sink.terminate() == 0


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing/events.duckdb", None, "No such file or directory"),
        ("text", b"hello", "it is not a valid DuckDB database file"),
        (".", None, "Is a directory"),
    ],
)
async def test_a_file_that_cannot_be_opened_says_why(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    file = DuckDbFile(tmp_path / name)
    with pytest.raises(TargetAwayError, match=f"cannot be written now: .*{told}$"):
        await file.open()
    await file.close()


async def test_a_file_that_somebody_reads_says_who(tmp_path: Path) -> None:
    path = tmp_path / "events.duckdb"
    with duckdb.connect(str(path)):
        pass
    reading = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print('', flush=True); input()"
    reader = await asyncio.create_subprocess_exec(sys.executable, "-c", reading, path, stdin=PIPE, stdout=PIPE)
    assert reader.stdout is not None
    await reader.stdout.readline()
    file = DuckDbFile(path)
    with pytest.raises(TargetAwayError, match=rf"Conflicting lock is held in .*PID {reader.pid}\)$"):
        await file.open()
    await file.close()
    reader.kill()
    await reader.communicate()
