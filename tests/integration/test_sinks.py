"""`footfall sink`: each event once in the engine, whatever dies; erasures reach it; records are parked, never lost."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from contracts.record import key_of
from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.sealed import key_store_of
from tests.drivers.sinks import killed_sink, start_sink, told, told_by_duckdb, wait_for_sink
from tests.processes import Process
from tests.producing import Raw, an_event, produce, record_of, some_records, sql, start_projector

KILLS = ("after_checkpoint", "after_rows", "after_commit")
IF_LONG = ("before_transaction", "before_commit") if os.environ.get("FOOTFALL_LONG") else ()


def of_tenant(tenant: str, user: str) -> Raw:
    return Raw(encode_event(an_event(user, {"of": tenant}, tenant_id=tenant)), key_of(tenant, user))


def run_sink(footfall: Footfall, settings: Mapping[str, str]) -> Process:
    """A sink that has passed every record."""
    sink = start_sink(footfall, "duckdb", settings)
    wait_for_sink(footfall, "sink_duckdb")
    return sink


def test_duckdb_has_each_event_once_whatever_kills_the_sink(footfall: Footfall, tmp_path: Path) -> None:
    file = tmp_path / "events.duckdb"
    settings = {"SINK_DUCKDB_FILE": str(file), "BATCH_MAX_RECORDS": "60"}
    records = some_records(600)
    again = [Raw(record.value, b"elsewhere") for record in records[:40]]  # the same events at other offsets
    odd = [Raw(b"no event", b"user-2"), record_of(an_event("user-2", {"after": "the poison"}))]
    produce(footfall, [*records, *again, *odd, of_tenant("acme", "user-1")])
    for at in (*KILLS, *IF_LONG):
        killed_sink(footfall, "duckdb", at, settings)
    assert run_sink(footfall, settings).terminate() == 0
    assert told_by_duckdb(file) == told(footfall)
    assert len(told(footfall)) == 602
    letters = sql(footfall.servers, "SELECT cause, record_value FROM sink_duckdb.dead_letters")
    assert [tuple(row) for row in letters] == [("poison", b"no event")]


def test_an_erasure_reaches_a_sink_and_a_file_that_comes_back_from_a_backup(footfall: Footfall, tmp_path: Path) -> None:
    file, backup = tmp_path / "events.duckdb", tmp_path / "backup.duckdb"
    settings = {"SINK_DUCKDB_FILE": str(file), "SINK_TENANTS": "default,acme"}
    eves = [record_of(an_event("eve", {"n": n}), partition=n % 2) for n in range(6)]
    others = [of_tenant("acme", "eve"), of_tenant("globex", "eve"), *some_records(20)]
    produce(footfall, [*eves, *others, Raw(b"not hers", b"eve", 0)])
    assert run_sink(footfall, settings).terminate() == 0
    shutil.copy(file, backup)
    assert {tenant for tenant, _ in told_by_duckdb(file)} == {"default", "acme"}

    projector = start_projector(footfall)
    privacy(footfall, "erase", "--yes", "eve")
    produce(footfall, [record_of(an_event("eve", {"after": "the marker"}))])
    assert run_sink(footfall, settings).terminate() == 0
    wanted = {name: told for name, told in told_by_duckdb(backup).items() if (name[0], told[0]) != ("default", "eve")}
    after = told_by_duckdb(file)
    assert {name: told for name, told in after.items() if told[3] != {"after": "the marker"}} == wanted
    assert len(after) == len(wanted) + 1
    letters = "SELECT record_value FROM sink_duckdb.dead_letters"
    assert [row["record_value"] for row in sql(footfall.servers, letters)] == [None]

    shutil.copy(backup, file)  # it is older than the checkpoints now, and has eve again
    assert run_sink(footfall, settings).terminate() == 0
    assert told_by_duckdb(file) == after

    file.unlink()  # a new one begins at the beginning, and never meets her
    assert run_sink(footfall, settings).terminate() == 0
    assert told_by_duckdb(file) == after
    projector.terminate()


def test_a_sink_has_of_a_sealed_log_what_is_in_the_clear(footfall: Footfall, tmp_path: Path) -> None:
    file = tmp_path / "events.duckdb"
    settings = {"SINK_DUCKDB_FILE": str(file)}
    produce(
        footfall, [record_of(an_event("eve", {"productId": "p-0"})), record_of(an_event("bob", {"productId": "p-0"}))]
    )
    keys = key_store_of(footfall)
    secret = {"productId": "p-1", "note": "secret"}
    produce(footfall, keys.sealed([record_of(an_event(user, secret)) for user in ("eve", "bob")]))
    assert run_sink(footfall, settings).terminate() == 0
    found = sorted(
        (told[0][:8], told[3].get("productId"), "secret" in str(told)) for told in told_by_duckdb(file).values()
    )
    assert found == [("bob", "p-0", False), ("eve", "p-0", False), *[("subject-", "p-1", False)] * 2]

    projector = start_projector(footfall, **keys.environment())
    privacy(footfall, "erase", "--yes", "eve", keys=keys.environment())
    assert run_sink(footfall, settings).terminate() == 0
    assert sorted(told[0][:8] for told in told_by_duckdb(file).values()) == ["bob", "subject-"]
    projector.terminate()
