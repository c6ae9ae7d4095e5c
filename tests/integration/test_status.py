"""`footfall status` as an operator meets it: real processes, its words, its exit codes."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Footfall
from tests.drivers.commands import active, as_json, environment, status
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until
from tests.producing import (
    Raw,
    an_event,
    metric,
    produce,
    produce_transactions,
    record_of,
    some_records,
    sql,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_when_all_is_done_all_is_well_for_every_role(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    wait_until_owning(projector, 6)
    produce(footfall, [*some_records(100), Raw(b"poison", b"user-1", 2), record_of(an_event("user-1"), 2)])
    wait_until_processed(footfall, 101)
    for url in (footfall.servers.query_url, footfall.servers.projector_url, footfall.servers.admin_url):
        run = status(footfall, "--json", url=url)
        assert (run.returncode, run.stderr) == (0, "")
        found = as_json(run)
        assert found["problems"] == []
        assert found["topic"] == footfall.topic
        assert [(each["name"], each["state"], each["progress"]) for each in found["generations"]] == [
            ("read_g1", "active", 1.0)
        ]
        assert [each["partition"] for each in active(found)] == list(range(6))
        for each in active(found):
            assert (each["state"], each["lag"], each["lagSeconds"], each["reason"]) == ("idle", 0, 0, None)
            assert each["checkpoint"] == each["endOffset"]
            assert str(projector.popen.pid) in each["owner"]
        letters = {(each["cause"], each["state"]): each["count"] for each in found["deadLetters"]}
        assert letters == {("poison", "parked"): 1, ("behind", "parked"): 1}
    table = status(footfall)
    assert table.returncode == 0
    assert "read_g1: active, 100.0% of the log" in table.stdout
    assert "All is well." in table.stdout
    assert "poison" in table.stdout


def test_what_nobody_projects_is_said_with_its_lag(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    wait_until_owning(projector, 6)
    produce(footfall, [record_of(an_event(), p) for p in range(6)])
    wait_until_processed(footfall, 6)
    assert projector.terminate() == 0
    produce(footfall, [record_of(an_event(), 4) for _ in range(25)])
    run = status(footfall, "--json", "--max-lag", "20")
    assert run.returncode == 1
    found = as_json(run)
    assert {each["state"] for each in active(found)} == {"unowned"}
    lagging = active(found)[4]
    assert (lagging["checkpoint"], lagging["endOffset"], lagging["lag"]) == (1, 26, 25)
    assert 0 < lagging["lagSeconds"] < 60
    assert "read_g1, partition 4 lags by 25 events, more than 20." in found["problems"]
    assert len(found["problems"]) == 7
    assert "lags" not in "".join(as_json(status(footfall, "--json", "--max-lag", "25"))["problems"])
    assert found["generations"][0]["progress"] == pytest.approx(6 / 31)


REFUSES_ALL = (
    "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck'; END $$",
    "CREATE TRIGGER refuse BEFORE INSERT ON read_g1.processed_events FOR EACH ROW EXECUTE FUNCTION public.refuse()",
)


def test_what_has_stopped_is_said_with_its_reason(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    wait_until_owning(projector, 6)
    for statement in REFUSES_ALL:
        sql(footfall.servers, statement)
    produce(footfall, [record_of(an_event(), 3)])
    wait_until(lambda: metric(projector, "partitions_stopped") == 1 or stopped(footfall), 20, "the partition to stop")
    wait_until(lambda: stopped(footfall), 20, "the reason to be written down")
    run = status(footfall)
    assert run.returncode == 1
    assert "! read_g1, partition 3 has stopped: defect: " in run.stdout
    states = [each["state"] for each in active(as_json(status(footfall, "--json")))]
    assert states == ["idle", "idle", "idle", "stopped", "idle", "idle"]


def stopped(footfall: Footfall) -> bool:
    return bool(sql(footfall.servers, "SELECT FROM read_g1.checkpoints WHERE stopped_reason IS NOT NULL"))


def test_markers_that_nobody_reads_are_no_lag(footfall: Footfall) -> None:
    parts = [(True, [record_of(an_event("a"), 0)]), (False, [record_of(an_event("b"), 0)])]
    asyncio.run(produce_transactions(footfall.servers.kafka, footfall.topic, parts))
    projector = start_projector(footfall)
    wait_until_owning(projector, 6)
    wait_until_processed(footfall, 1)
    run = status(footfall, "--json", "--max-lag", "0")
    first = active(as_json(run))[0]
    assert first["checkpoint"] < first["endOffset"]
    assert (first["state"], first["lag"], first["lagSeconds"]) == ("idle", 0, 0)
    assert run.returncode == 0


def test_a_server_that_cannot_be_reached_is_one_line_and_exit_2(footfall: Footfall) -> None:
    kafka = status(footfall, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    postgres = status(footfall, url=f"postgresql://nobody:secret@127.0.0.1:{free_port()}/nowhere")
    for run, server in ((kafka, "Kafka"), (postgres, "PostgreSQL")):
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr.startswith(f"footfall: status: {server} cannot be used: ")
        assert run.stderr.count("\n") == 1
        assert "secret" not in run.stderr


def test_it_watches_until_it_is_interrupted(footfall: Footfall) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "footfall", "status", "--json", "--watch"],
        cwd=REPOSITORY,
        env=environment(footfall, footfall.servers.query_url),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
    assert first["at"] < second["at"]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE) == 0
    watching.stdout.close()
