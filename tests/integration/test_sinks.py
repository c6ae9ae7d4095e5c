"""`footfall sink`: each event once in the engine, whatever dies; erasures reach it; records are parked, never lost."""

import os
import shutil
from pathlib import Path

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.drivers.sinks import killed_sink, start_sink, told, told_by_duckdb, wait_for_sink
from tests.producing import Raw, an_event, produce, record_of, some_records, sql

KILLS = ("after_checkpoint", "after_rows", "after_commit")
IF_LONG = ("before_transaction", "before_commit") if os.environ.get("FOOTFALL_LONG") else ()


def test_duckdb_has_each_event_once_whatever_kills_the_sink(footfall: Footfall, tmp_path: Path) -> None:
    file = tmp_path / "events.duckdb"
    settings = {"SINK_DUCKDB_FILE": str(file), "BATCH_MAX_RECORDS": "60"}
    records = some_records(600)
    of_another = an_event("user-1", {"n": -1}, tenant_id="acme")
    again = [Raw(record.value, b"elsewhere") for record in records[:40]]  # the same events at other offsets
    odd = [Raw(b"no event", b"user-2"), record_of(an_event("user-2", {"after": "the poison"}))]
    produce(footfall, [*records, *again, *odd, Raw(encode_event(of_another), b"acme\x1fuser-1")])
    for at in (*KILLS, *IF_LONG):
        killed_sink(footfall, "duckdb", at, settings)
    sink = start_sink(footfall, "duckdb", settings)
    wait_for_sink(footfall, "sink_duckdb")
    older = tmp_path / "older.duckdb"
    assert sink.terminate() == 0
    shutil.copy(file, older)
    assert told_by_duckdb(file) == told(footfall)
    assert len(told(footfall)) == 602
    letters = sql(footfall.servers, "SELECT cause, record_value FROM sink_duckdb.dead_letters")
    assert [tuple(row) for row in letters] == [("poison", b"no event")]
