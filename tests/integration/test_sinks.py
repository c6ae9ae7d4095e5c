"""`footfall sink`: each event once in the engine, whatever dies; erasures reach it; records are parked, never lost."""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import duckdb
import httpx
from pydantic import SecretStr

from contracts.event import DEFAULT_TENANT
from contracts.record import key_of
from contracts.sealed.events import stub_name
from contracts.versions import encode_event
from operations.doctor.findings import Finding
from operations.doctor.sinks import sink_findings
from operations.status.observer import observing
from projector.settings import ProjectorSettings
from read_model.pseudonyms import KEY, pseudonym
from sinks.targets.duckdb_file import CREATE
from tests.conftest import Footfall
from tests.drivers.commands import as_json, status_here
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import dlq_told
from tests.drivers.sealed import key_store_of
from tests.drivers.sinks import killed_sink, start_sink, told, told_by_duckdb, wait_for_sink
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, produce, record_of, some_records, sql, start_projector

REFUSED = "refused"
KILLS = ("after_checkpoint", "after_rows", "after_commit")
IF_LONG = ("before_transaction", "before_commit") if os.environ.get("FOOTFALL_LONG") else ()


def of_tenant(tenant: str, user: str) -> Raw:
    return Raw(encode_event(an_event(user, {"of": tenant}, tenant_id=tenant)), key_of(tenant, user))


@contextlib.contextmanager
def duckdb_opened(file: Path) -> Iterator[None]:
    """Reads the file, once the sink has closed it."""
    found: list[duckdb.DuckDBPyConnection] = []

    def opened() -> bool:
        with contextlib.suppress(duckdb.IOException):
            found.append(duckdb.connect(str(file), read_only=True))
        return bool(found)

    wait_until(opened, 30, "the sink to close its file")
    with found[0]:
        yield


def retries(sink: Process) -> float:
    metrics = httpx.get(f"{sink.url}/metrics").text
    return float(re.findall(r"^projection_retries_total (\S+)$", metrics, re.MULTILINE)[0])


def findings(footfall: Footfall) -> list[str]:
    """What `footfall doctor` says of sinks, as the projector's role sees it."""

    async def asked() -> list[Finding]:
        settings = ProjectorSettings(
            kafka_bootstrap_servers=footfall.servers.kafka,
            kafka_topic=footfall.topic,
            kafka_group_id=footfall.group,
            database_url=SecretStr(footfall.servers.projector_url),
        )
        async with observing(settings) as observer:
            return sink_findings((await observer.status()).sinks)

    return [f"{finding.verdict}: {finding.says}" for finding in asyncio.run(asked())]


def redriven(footfall: Footfall, settings: Mapping[str, str]) -> dict[str, int]:
    """What became of all letters of the sink that were redriven."""
    told = dlq_told(footfall, "redrive", "--sink", "duckdb", "--json", more={**footfall.environment(), **settings})
    counts: dict[str, int] = json.loads(told)["counts"]
    return counts


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
    produce(footfall, [*records, *again, *odd, of_tenant("acme", "user-1"), record_of(an_event(REFUSED))])
    with duckdb.connect(str(file)) as connection:  # whoever owns the file may refuse what we would not
        connection.execute(CREATE[1].replace("PRIMARY KEY", f"CHECK (user_id <> '{REFUSED}'), PRIMARY KEY"))
    for at in (*KILLS, *IF_LONG):
        killed_sink(footfall, "duckdb", at, settings)
    sink = run_sink(footfall, settings)
    with duckdb_opened(file):  # the sink has closed it, and waits for who reads it
        produce(footfall, [record_of(an_event(f"user-{n}", {"late": n})) for n in range(9)])
        wait_until(lambda: retries(sink) > 0, 30, "a batch that cannot be written now")
    wait_for_sink(footfall, "sink_duckdb")
    assert sink.terminate() == 0
    wanted = {name: event for name, event in told(footfall).items() if event[0] != REFUSED}
    assert told_by_duckdb(file) == wanted
    assert len(wanted) == 611
    letters = sql(footfall.servers, "SELECT error_class, cause FROM sink_duckdb.dead_letters")
    assert {tuple(row) for row in letters} == {("InvalidEvent", "poison"), ("DocumentRefusedError", "poison")}
    assert len(letters) == 2
    assert findings(footfall) == ["warning: 2 dead letters of sink_duckdb wait."]
    assert redriven(footfall, settings) == {"poison": 2}
    with duckdb.connect(str(file)) as connection:  # its owner refuses nothing any more
        for statement in (
            "ALTER TABLE events RENAME TO old",
            CREATE[1],
            "INSERT INTO events FROM old",
            "DROP TABLE old",
        ):
            connection.execute(statement)
    assert redriven(footfall, settings) == {"poison": 1, "stored": 1}
    assert told_by_duckdb(file) == told(footfall)
    environment = {**footfall.environment(), **settings}
    [left] = json.loads(dlq_told(footfall, "list", "--sink", "duckdb", "--json", more=environment))["letters"]
    place = (left["kafka_topic"], str(left["kafka_partition"]), str(left["kafka_offset"]))
    assert "no event" in dlq_told(footfall, "show", "--sink", "duckdb", *place, "--raw", more=environment)
    dlq_told(footfall, "discard", "--sink", "duckdb", "--yes", "--cause", "poison", more=environment)
    elsewhere = {**environment, "SINK_DUCKDB_FILE": str(tmp_path / "elsewhere.duckdb")}
    assert "There is no sink_other" in dlq_told(
        footfall, "list", "--sink", "duckdb", more={**environment, "SINK_NAME": "other"}, code=1
    )
    sql(footfall.servers, "UPDATE sink_duckdb.dead_letters SET state = 'parked'")
    refused = dlq_told(footfall, "redrive", "--sink", "duckdb", more=elsewhere, code=1)
    assert "writes sink_duckdb into another target" in refused
    sql(footfall.servers, "UPDATE sink_duckdb.dead_letters SET state = 'discarded'")
    assert findings(footfall) == ["well: sink_duckdb is 0 events behind."]
    assert [each["name"] for each in as_json(status_here(footfall, "--json"))["sinks"]] == ["sink_duckdb"]
    sql(footfall.servers, "UPDATE sink_duckdb.checkpoints SET stopped_reason = 'server: ..' WHERE partition = 3")
    assert "problem: sink_duckdb, partition 3 has stopped: server: ." in findings(footfall)[0]
    shown = status_here(footfall)
    assert "sink_duckdb: sink, " in shown.stdout
    assert "! sink_duckdb, partition 3 has stopped: server: ." in shown.stdout


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
    sink = run_sink(footfall, settings)
    while_it_is_closed: list[Callable[[], object]] = [lambda: backup.replace(file), file.unlink]
    for number, replaced in enumerate(while_it_is_closed):
        with duckdb_opened(file):
            assert told_by_duckdb(file) == after
            replaced()
        late = an_event("user-1", {"late": number})
        produce(footfall, [record_of(late)])
        wait_for_sink(footfall, "sink_duckdb")
        name = (late.tenant_id, str(late.event_id))
        after[name] = told(footfall)[name]
    assert sink.terminate() == 0
    assert told_by_duckdb(file) == after

    sink = start_sink(footfall, "duckdb", {**settings, "SINK_TENANTS": "default,acme,globex"})
    wait_until(lambda: "sink_begins" in sink.log_text(), PATIENCE, "the sink to begin again, with one more tenant")
    wait_for_sink(footfall, "sink_duckdb")
    assert sink.terminate() == 0
    globex = {name: event for name, event in told(footfall).items() if name[0] == "globex"}
    assert len(globex) == 1
    assert told_by_duckdb(file) == after | globex

    file.unlink()  # a new one begins at the beginning, and never meets her
    assert run_sink(footfall, settings).terminate() == 0
    assert told_by_duckdb(file) == after
    projector.terminate()


def test_a_sink_has_of_a_sealed_log_what_is_in_the_clear(footfall: Footfall, tmp_path: Path) -> None:
    file = tmp_path / "events.duckdb"
    settings = {"SINK_DUCKDB_FILE": str(file)}
    product = {"productId": "p-0"}
    # Of a log that was sealed, and then rewritten without those who had been erased: a stub of eve.
    stub = stub_name(pseudonym(sql(footfall.servers, KEY)[0][0], DEFAULT_TENANT, "eve").hex())
    produce(footfall, [record_of(an_event(user, product)) for user in (stub, "eve", "bob")])
    keys = key_store_of(footfall)
    secret = {"productId": "p-1", "note": "secret"}
    produce(footfall, keys.sealed([record_of(an_event(user, secret)) for user in ("eve", "bob")]))
    assert run_sink(footfall, settings).terminate() == 0
    found = sorted(
        (told[0][:8], told[3].get("productId"), "secret" in str(told)) for told in told_by_duckdb(file).values()
    )
    plain = [("bob", "p-0", False), (stub[:8], "p-0", False), ("eve", "p-0", False)]
    assert found == [*plain, *[("subject-", "p-1", False)] * 2]

    projector = start_projector(footfall, **keys.environment())
    privacy(footfall, "erase", "--yes", "eve", keys=keys.environment())
    assert run_sink(footfall, settings).terminate() == 0
    assert sorted(told[0][:8] for told in told_by_duckdb(file).values()) == ["bob", "subject-"]
    projector.terminate()
