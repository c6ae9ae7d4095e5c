"""Several processes of one sink: the target has each event once, and no checkpoint goes back, whoever dies when."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.conftest import Footfall
from tests.drivers.search_stand_in import STREAM, search_stand_in
from tests.drivers.sinks import SOON, told, told_by_duckdb, wait_for_sink
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import produce, some_records, sql

WENT_BACK = (
    "CREATE TABLE public.went_back (partition int, before bigint, after bigint)",
    "GRANT ALL ON public.went_back TO PUBLIC",
    """CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       INSERT INTO public.went_back VALUES (OLD.partition, OLD.next_offset, NEW.next_offset); RETURN NEW; END $$""",
)
NOTE = """CREATE TRIGGER note BEFORE UPDATE ON {schema}.checkpoints FOR EACH ROW
          WHEN (NEW.next_offset < OLD.next_offset) EXECUTE FUNCTION public.note()"""


def started(footfall: Footfall, kind: str, name: str, settings: dict[str, str], *, ready: bool = True) -> Process:
    """One process of a sink, with a name of its own in the group."""
    return footfall.start(f"sink {kind}", ready=ready, **{**SOON, "KAFKA_GROUP_INSTANCE_ID": name, **settings})


def note_what_goes_back(footfall: Footfall, schema: str) -> None:
    for statement in (*WENT_BACK, NOTE.format(schema=schema)):
        sql(footfall.servers, statement)


def owners(footfall: Footfall, schema: str) -> set[str]:
    return {row["owner"] for row in sql(footfall.servers, f"SELECT owner FROM {schema}.checkpoints")}


def holding(footfall: Footfall, schema: str, *processes: Process) -> bool:
    """Whether exactly these have the partitions."""
    return {owner.rpartition(":")[2] for owner in owners(footfall, schema)} == {str(p.popen.pid) for p in processes}


def told_by(document: dict[str, Any]) -> tuple[Any, ...]:
    moment = datetime.fromisoformat(document["@timestamp"]).astimezone(UTC).replace(tzinfo=None)
    return document["user_id"], document["event_type"], moment, document["payload"]


def test_processes_share_the_partitions_and_one_dies_in_the_middle_of_a_batch(footfall: Footfall) -> None:
    schema = "sink_opensearch"
    with search_stand_in() as (url, streams):
        settings = {"SINK_URL": url, "BATCH_MAX_RECORDS": "50"}
        first = started(footfall, "opensearch", "first", settings)
        note_what_goes_back(footfall, schema)
        # It dies with its first batch in the target, and not in the checkpoints.
        doomed = started(
            footfall, "opensearch", "doomed", {**settings, "FOOTFALL_FAILPOINTS": "after_rows=kill"}, ready=False
        )
        wait_until(lambda: holding(footfall, schema, first, doomed), 30, "two to share the partitions")
        produce(footfall, some_records(600))
        assert doomed.popen.wait(PATIENCE) == -9
        third = started(footfall, "opensearch", "doomed", settings)  # its name comes again, and has its place
        wait_until(lambda: holding(footfall, schema, first, third), 30, "the survivor and a third one to share")
        produce(footfall, some_records(300))
        wait_for_sink(footfall, schema)
        assert first.terminate() == 0
        produce(footfall, some_records(100))
        wait_for_sink(footfall, schema)
        assert third.terminate() == 0
        found = {(d["tenant_id"], i): told_by(d) for i, d in streams.documents[STREAM].items()}
    assert found == told(footfall)
    assert len(found) == 1_000
    assert streams.again > 0, "the batch of the dead one came again"
    assert sql(footfall.servers, "SELECT * FROM public.went_back") == []


def test_one_process_writes_a_file_and_the_next_waits_for_its_end(footfall: Footfall, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "events.duckdb", tmp_path / "elsewhere.duckdb"
    settings = {"SINK_DUCKDB_FILE": str(file), "BATCH_MAX_RECORDS": "50"}
    first = started(footfall, "duckdb", "first", settings)
    note_what_goes_back(footfall, "sink_duckdb")
    second = started(footfall, "duckdb", "first", settings, ready=False)  # as a service that is started again
    # Nor does it matter that a third one has another file: of one sink there is one.
    third = started(
        footfall,
        "duckdb",
        "third",
        {"SINK_DUCKDB_FILE": str(elsewhere), "STARTUP_TIMEOUT_MS": "500"},
        ready=False,
    )
    assert third.popen.wait(PATIENCE) == 1
    said = third.log_text()
    assert "sink_duckdb is written by one process at a time, and another has it: session " in said
    assert "application footfall-sink sink_duckdb" in said
    assert not elsewhere.exists()
    produce(footfall, some_records(400))
    wait_until(lambda: "another has it" in second.log_text(), 30, "the second to say that it waits")
    first.kill()
    produce(footfall, some_records(100))
    wait_for_sink(footfall, "sink_duckdb")
    assert holding(footfall, "sink_duckdb", second)
    assert second.terminate() == 0
    assert told_by_duckdb(file) == told(footfall)
    assert sql(footfall.servers, "SELECT * FROM public.went_back") == []


def test_a_sink_is_not_written_into_two_clusters_at_once(footfall: Footfall) -> None:
    with search_stand_in() as (url, _), search_stand_in() as (other, _):
        first = started(footfall, "opensearch", "first", {"SINK_URL": url})
        second = started(footfall, "opensearch", "second", {"SINK_URL": other}, ready=False)
        assert second.popen.wait(PATIENCE) == 1
        assert "writes sink_opensearch into another target" in second.log_text()
        sql(footfall.servers, "UPDATE ops.sinks SET target = gen_random_uuid()")  # as if its session had been lost
        assert first.popen.wait(PATIENCE) == 1
        assert "writes sink_opensearch into another target" in first.log_text()
