"""`footfall archive`: each record once whatever dies, every change named, and a generation from archive and topic."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from aiokafka.structs import ConsumerRecord

from operations.archive import writing
from operations.archive.files import opening, s3_requests
from operations.archive.files.bucket import Bucket as S3Store
from operations.archive.files.manifest import checked_manifest
from operations.archive.files.reading import Place, Records
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Directory
from operations.archive.running import Log
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.drivers.archiving import Bucket, archive, archive_json, archived, files, killed, started
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, a_day, rebuild, wait_until_done
from tests.drivers.s3_answers import answers_before
from tests.drivers.sealed import key_store_of
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import (
    Raw,
    an_event,
    delete_before,
    produce,
    produce_transactions,
    read_topic,
    record_of,
    sql,
    start_projector,
)

FEW = {"ARCHIVE_FILE_RECORDS": "150"}


def told(record: ConsumerRecord) -> tuple[Any, ...]:
    """What a record of Kafka says."""
    headers = [tuple(header) for header in record.headers]
    at = record.partition, record.offset
    return *at, record.timestamp, record.timestamp_type, record.key, record.value, headers


def told_by(row: dict[str, Any]) -> tuple[Any, ...]:
    """What an archived one says."""
    headers = [(header["name"], header["value"]) for header in row["headers"]]
    at = row["partition"], row["offset"]
    return *at, round(row["timestamp"].timestamp() * 1000), row["timestamp_type"], row["key"], row["value"], headers


def assert_archived(footfall: Footfall, place: Path) -> int:
    """The archive has what the topic has, each record once and byte for byte; returns how many."""
    wanted = sorted((told(record) for record in read_topic(footfall)), key=lambda one: one[:2])
    assert sorted((told_by(row) for row in archived(place)), key=lambda one: one[:2]) == wanted
    return len(wanted)


def test_each_record_is_archived_once_whatever_kills_the_command(
    footfall: Footfall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "archive"
    odd = [Raw(None, b"key", 1), Raw(b"", None, 1, 1, [("h", b""), ("h", b"\xff")]), Raw(b"x" * 400_000, b"k", 1)]
    produce(footfall, [*a_day(1_500), *odd])
    asyncio.run(produce_transactions(footfall.servers.kafka, footfall.topic, [(True, a_day(5)), (False, a_day(5))]))
    for at in ("archive_staged=kill", "archive_written=kill@2", "archive_entered=kill@2"):
        killed(footfall, place, "run", at=at, given=FEW)
    assert archive_json(footfall, place, "run", given=FEW)["removed"] > 0
    assert assert_archived(footfall, place) == 1_508
    produce(footfall, a_day(200))
    before = archive_json(footfall, place, "run", "--metrics-file", str(tmp_path / "archive.prom"))
    assert "archive_partitions_refused 0.0" in (tmp_path / "archive.prom").read_text()
    asyncio.run(produce_transactions(footfall.servers.kafka, footfall.topic, [(False, a_day(40))]))
    ran = archive_json(footfall, place, "run")
    assert (ran["files"], ran["entries"]) == (0, before["entries"] + 6)  # offsets without a record are covered
    count = assert_archived(footfall, place)
    found = archive_json(footfall, place, "verify")
    assert (found["sound"], found["records"], found["strangers"]) == (True, count, 0)
    assert not list((place / "staging").iterdir())
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "archive.md").read_text()
    exec(page.partition("```python\n")[2].partition("```")[0], {})  # noqa: S102 - what the page tells analysts
    assert "PRODUCT_VIEW" in capfd.readouterr().out
    assert {path.stat().st_mode & 0o077 for path in [place, *place.rglob("*")]} == {0}


def flip(path: Path, at: int) -> bytes:
    """Flips one bit of a file; returns what it was."""
    was = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(was[:at] + bytes([was[at] ^ 1]) + was[at + 1 :])
    return was


def faults(footfall: Footfall, place: Path, *options: str) -> list[tuple[str, str, str]]:
    found = archive_json(footfall, place, "verify", *options, code=1)
    return [(fault["kind"], fault["file"], fault["what"]) for fault in found["faults"]]


def test_verify_names_what_is_not_as_it_was_written(footfall: Footfall, tmp_path: Path) -> None:
    place = tmp_path / "archive"
    produce(footfall, [Raw(os.urandom(60), b"k", 0) for _ in range(700)])
    head = archive_json(footfall, place, "run", given=FEW)["head"]
    first, second, *_ = files(place)
    manifest = checked_manifest(Directory(place))
    named = [path.relative_to(place).as_posix() for path in (first, second)]
    for at, told_of in ((5_000, "partition 0, offsets 150 to 299"), (-2, "no Parquet file"), (-20, "")):
        was = flip(second, at)
        ((kind, file, what),) = faults(footfall, place)
        assert (kind, file) == ("changed", named[1])
        assert told_of in what
        if told_of:
            with (
                closing(Records(Directory(place), manifest)) as records,
                pytest.raises(ArchiveError, match="is not as it was written"),
            ):
                records.load(Place(manifest.entries[1], 0))
        second.write_bytes(was)
    first.rename(tmp_path / "away")
    assert [fault[:2] for fault in faults(footfall, place)] == [("missing", named[0])]
    (tmp_path / "away").rename(first)
    entries = sorted((place / "manifest").iterdir())
    for entry in (entries[0], entries[-1]):
        was = flip(entry, entry.read_bytes().index(b'"count"') + 10)
        assert faults(footfall, place)[0][:2] == ("changed", f"manifest/{entry.name}")
        assert "is not whole" in archive(footfall, place, "run", code=1)
        entry.write_bytes(was)
    assert archive_json(footfall, place, "verify", "--head", head)["sound"] is True
    entries[-1].rename(tmp_path / "last")
    assert faults(footfall, place, "--head", head)[0][0] == "cut off"
    assert archive_json(footfall, place, "run", given=FEW)["records"] == 100
    entries[2].unlink()
    assert faults(footfall, place)[0][:2] == ("missing", "manifest/000000000003.json")


def test_a_seam_that_is_not_proven_is_refused(
    footfall: Footfall, tmp_path: Path, new_topic: Callable[..., str]
) -> None:
    place, late = tmp_path / "archive", tmp_path / "late"
    produce(footfall, [Raw(b"%d" % n, b"k", 0) for n in range(30)])
    assert "is empty" in archive(footfall, place, "restore", code=1)
    archive(footfall, place, "run")
    produce(footfall, [Raw(b"%d" % n, b"k", 0) for n in range(30, 40)])
    asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, 0, 35))
    gap = "partition 0 lacks the offsets 30 to 34"
    assert gap in archive(footfall, place, "restore", code=1)
    assert "no longer holds offsets 30 to 34" in archive(footfall, place, "run", code=1)
    archive(footfall, late, "run")
    assert "begins at offset 35" in archive(footfall, late, "restore", code=1)
    other = Footfall(footfall.servers, new_topic(), tmp_path)
    for command in ("run", "restore"):
        assert "another topic" in archive(other, place, command, code=1)
    assert rebuild(footfall, "status", "--json").count('"name"') == 1  # nothing was begun


def test_two_runs_at_a_time_leave_one_archive_in_a_bucket(footfall: Footfall, bucket: Bucket) -> None:
    produce(footfall, a_day(400))
    other: list[str] = []

    class Overtaken(S3Store):
        def create(self, name: str, content: bytes) -> None:
            if not other:
                other.append(started(footfall, bucket.place, "run", given=bucket.settings).communicate()[0])
            super().create(name, content)

    with patch.object(opening, "Bucket", Overtaken):
        refused = archive(footfall, bucket.place, "run", code=1, given=bucket.settings | FEW)
    assert "Another run writes into the archive" in refused
    found = archive_json(footfall, bucket.place, "verify", given=bucket.settings)
    assert (found["sound"], found["records"]) == (True, 400)
    assert found["head"] in other[0]
    assert (found["strangers"], len(bucket.names("records"))) == (0, found["files"])


def test_a_bucket_whose_server_answers_as_others_do_or_badly(footfall: Footfall, bucket: Bucket) -> None:
    produce(footfall, a_day(100))
    bucket.make_folder("manifest/")  # as S3's console and Hadoop make one
    with answers_before(bucket.settings["ARCHIVE_S3_ENDPOINT_URL"]) as server:
        given = server.settings_for(bucket)
        server.judge = lambda method, path: "taken" if method == "PUT" and "/records/" in path else "terse"
        assert "does not have all of it" in archive(footfall, bucket.place, "run", code=1, given=given)
        for folder in ("/records/", "/manifest/"):
            server.judge = lambda method, path, folder=folder: (  # type: ignore[misc]
                "page" if method == "PUT" and folder in path else "terse"
            )
            with patch.object(s3_requests, "GIVE_UP_AFTER", 1.0):
                assert "no server of S3" in archive(footfall, bucket.place, "run", code=1, given=given)
        losing = iter(["lost"])  # the first entry's; sent again, its name is taken
        server.judge = lambda method, path: (
            next(losing, "terse") if method == "PUT" and "/manifest/" in path else "terse"
        )
        assert archive_json(footfall, bucket.place, "run", given=given)["records"] == 100
        assert next(losing, "") == ""
        server.judge = lambda method, path: "half" if method == "GET" and ".parquet" in path else "terse"
        with patch.object(s3_requests, "GIVE_UP_AFTER", 1.0):
            assert "answers end in the middle" in archive(footfall, bucket.place, "verify", code=1, given=given)
        server.judge = lambda _method, _path: "terse"
        found = archive_json(footfall, bucket.place, "verify", given=given)
    assert (found["sound"], found["records"], found["strangers"]) == (True, 100, 1)  # the folder's object


def test_a_directory_that_is_full_or_has_files_of_others(footfall: Footfall, tmp_path: Path) -> None:
    produce(footfall, a_day(100))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with patch.object(writing, "RecordFile", full):
        told = archive(footfall, tmp_path, "run", code=1)
    assert f"The archive at {tmp_path} cannot be used: No space left on device." in told
    archive(footfall, tmp_path, "run")
    for name in (".DS_Store", ".nfs0000001", "000000000001.json.bak", "000000000099.json~"):
        (tmp_path / "manifest" / name).touch()
    assert archive_json(footfall, tmp_path, "run")["records"] == 0
    found = archive_json(footfall, tmp_path, "verify")
    assert (found["sound"], found["records"], found["strangers"]) == (True, 100, 4)


def test_a_generation_from_archive_and_topic_equals_the_one_from_the_whole_topic(
    footfall: Footfall, bucket: Bucket
) -> None:
    place = bucket.place
    produce(footfall, a_day(3_000))
    projector = start_projector(footfall)
    assert "Archives of the log" in privacy(footfall, "erase", "user-7", "--yes")
    wait_until_done(footfall, OLD, 3_006)
    archive(footfall, place, "run", given=bucket.settings | FEW)
    produce(footfall, a_day(40))
    for partition, (_, end) in archive_json(footfall, place, "verify", given=bucket.settings)["spans"].items():
        asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, int(partition), end - 5))
    assert "no longer holds" in rebuild(footfall, "start", code=1)
    killed(footfall, place, "restore", at="after_commit=kill@2", given=bucket.settings)
    wait_until(lambda: noted(footfall, "archive run") == ["begun", "done"], PATIENCE, "the audit log to have the run")
    newest = bucket.hide_newest_entry()
    assert "not the one that was written" in archive(footfall, place, "restore", code=1, given=bucket.settings)
    newest()
    found = archive_json(footfall, place, "restore", given=bucket.settings)
    assert found["generation"] == NEW
    assert noted(footfall, "archive restore") == ["begun", "begun", "failed", "begun", "done"]
    assert {seam["compared"] for seam in found["seams"]} == {5}
    wait_until_done(footfall, NEW, 3_046)
    assert "is verified" in rebuild(footfall, "verify")
    assert [row["n"] for row in sql(footfall.servers, OF_ERASED)] == [1]  # what came after the marker
    rebuild(footfall, "promote")
    assert projector.terminate() == 0


def noted(footfall: Footfall, action: str) -> list[str]:
    """How what was done ended, as the audit log has it."""
    found = sql(footfall.servers, f"SELECT outcome FROM ops.audit WHERE action = '{action}' ORDER BY number")
    return [row["outcome"] for row in found]


OF_ERASED = f"SELECT count(*) AS n FROM {NEW}.processed_events WHERE user_id = 'user-7'"


CANARY = "alice+canary@example.com"


def of_canary(count: int) -> list[Raw]:
    payloads = [{"productId": f"p-{n % 3}", "mail": f"{CANARY} {n}"} for n in range(count)]
    return [record_of(an_event(CANARY, payload)) for payload in payloads]


def test_erased_users_are_taken_out_of_an_archive_whatever_kills_the_command(
    footfall: Footfall, tmp_path: Path
) -> None:
    place = tmp_path / "archive"
    mixed = Raw(record_of(an_event("neighbour")).value, CANARY.encode(), 2)
    broken = Raw(b'{"userId":"alice+canary@example.com","eventType":"wink"}', CANARY.encode(), 2)
    produce(footfall, [*a_day(300), *of_canary(9), mixed, broken, *a_day(300), *of_canary(9), *a_day(100)])
    projector = start_projector(footfall)
    privacy(footfall, "erase", CANARY, "--yes")
    produce(footfall, of_canary(2))  # the user is back
    wait_until_done(footfall, OLD, 720 + 6 + 2)
    few = {"ARCHIVE_FILE_RECORDS": "40"}
    spans, partial = Log.spans, tmp_path / "partial"

    async def without_an_end(log: Log) -> dict[int, tuple[int, int]]:
        return {p: (begin, 5 if p == 5 else end) for p, (begin, end) in (await spans(log)).items()}

    with patch.object(Log, "spans", without_an_end):  # as a run that is killed, or refuses a partition
        archive(footfall, partial, "run")
    assert "Partition 5 of the archive has records from before 1 erasures" in archive(
        footfall, partial, "rewrite", "--yes", code=1
    )
    archive(footfall, partial, "run")
    archive(footfall, partial, "rewrite", "--yes")
    ran = archive_json(footfall, place, "run", given=few)
    was = {told_by(row)[:2]: told_by(row) for row in archived(place)}
    untouched = {path: path.read_bytes() for path in files(place)}
    for at in ("archive_written=kill@2", "archive_entered=kill"):
        killed(footfall, place, "rewrite", "--yes", at=at)
    assert {fault[0] for fault in faults(footfall, place)} == {"left"}, "the file of a killed rewrite says that it is"
    found = archive_json(footfall, place, "rewrite", "--yes")
    assert found["removed"] > 0
    verified = archive_json(footfall, place, "verify", "--head", found["head"])
    assert (verified["sound"], verified["strangers"], verified["spans"]) == (True, 0, ran["spans"])
    now = {told_by(row)[:2]: told_by(row) for row in archived(place)}
    assert now.keys() == was.keys()
    changed = {at for at in now if now[at] != was[at]}
    assert len(changed) == 18 + 1 + 1 + 6
    assert all(CANARY in str(was[at]) for at in changed)
    left = [at for at in now if CANARY in str(now[at])]
    assert len(left) == 2, "what came after the marker stays"
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in place.rglob("*.json"))
    assert not (place / "rewriting").exists()
    kept = [path for path in untouched if path.exists()]
    assert 0 < len(kept) < len(untouched)
    assert all(path.read_bytes() == untouched[path] for path in kept)
    again = archive_json(footfall, place, "rewrite", "--yes")
    assert (again["files"], again["users"], again["head"]) == (0, 0, found["head"])
    produce(footfall, a_day(20))
    archive(footfall, place, "run", given=few)  # it goes on, although the topic still has the erased records
    restored = archive_json(footfall, place, "restore")
    assert sum(seam["compared"] for seam in restored["seams"]) == len(was) + 20
    wait_until_done(footfall, NEW, 748)
    assert "is verified" in rebuild(footfall, "verify")
    privacy(footfall, "erase", CANARY, "--yes")
    assert "1 erasures are newer than the archive" in archive(footfall, place, "rewrite", "--yes", code=1)
    assert projector.terminate() == 0
    assert noted(footfall, "archive rewrite")[-4:] == ["begun", "done"] * 2


def test_an_archive_in_a_bucket_of_a_log_that_was_sealed_later_is_rewritten(footfall: Footfall, bucket: Bucket) -> None:
    """The key of the marker is destroyed: users of plain events are found by the pseudonyms that projectors noted."""
    keys, place, given = key_store_of(footfall), bucket.place, {"ARCHIVE_FILE_RECORDS": "20", **bucket.settings}
    sealed = keys.sealed([record_of(an_event(user)) for user in (CANARY, "stays")])
    produce(footfall, [*a_day(60), *of_canary(5), *sealed])
    privacy(footfall, "erase", CANARY, "--yes", "--wait", "0", code=1, keys=keys.environment())
    assert "no projector has applied" in rewritten_before(footfall, bucket, given)
    projector = start_projector(footfall, **keys.environment())
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), PATIENCE, "the keys to be destroyed")
    was = {told_by(row)[:2]: told_by(row) for row in bucket.archived()}
    if "FOOTFALL_LONG" in os.environ:
        killed(footfall, place, "rewrite", "--yes", at="archive_entered=kill", given=given)
    found = archive_json(footfall, place, "rewrite", "--yes", given=given)
    verified = archive_json(footfall, place, "verify", "--head", found["head"], given=given)
    assert (verified["sound"], verified["strangers"], found["users"]) == (True, 0, 1)
    now = {told_by(row)[:2]: told_by(row) for row in bucket.archived()}
    changed = {at for at in now if now[at] != was[at]}
    assert now.keys() == was.keys()
    assert changed == {at for at in was if CANARY in str(was[at])}, "sealed records and markers stay as they are"
    assert len(changed) == 5
    assert not [name for name in bucket.names("") if "rewriting" in name]
    assert CANARY.encode() not in bucket.bytes()
    if "FOOTFALL_LONG" in os.environ:
        given = {**given, **keys.environment()}
        assert archive_json(footfall, place, "restore", given=given)["generation"] == NEW
        wait_until_done(footfall, NEW, 73)
        assert "is verified" in rebuild(footfall, "verify")
    assert projector.terminate() == 0


def rewritten_before(footfall: Footfall, bucket: Bucket, given: dict[str, str]) -> str:
    """What a rewrite says that is too early."""
    archive(footfall, bucket.place, "run", given=given)
    return archive(footfall, bucket.place, "rewrite", "--yes", code=1, given=given)


@pytest.mark.skipif("FOOTFALL_LONG" not in os.environ, reason="a key store and a front of its own; FOOTFALL_LONG=1")
def test_the_archive_of_a_sealed_log_is_ciphertext_and_builds_a_generation(footfall: Footfall, tmp_path: Path) -> None:
    keys, place = key_store_of(footfall), tmp_path / "archive"
    given = dict(keys.environment())
    start: Any = footfall.start
    front = start("front", **given)
    projector = start_projector(footfall, **given)
    for n in range(60):
        command = {"userId": f"canary-{n % 3}", "eventType": "PRODUCT_VIEW", "payload": {"note": "secret"}}
        assert httpx.post(f"{front.url}/events/generate", json=command).status_code == 201
    wait_until_done(footfall, OLD, 60)
    assert httpx.delete(f"{front.url}/users/canary-1").status_code == 202
    wait_until_done(footfall, OLD, 66)
    for partition, (_, end) in archive_json(footfall, place, "run")["spans"].items():
        asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, int(partition), end))
    values = b"".join(row["value"] + (row["key"] or b"") for row in archived(place))
    assert b"canary" not in values
    assert b"secret" not in values
    assert archive_json(footfall, place, "restore", given=given)["records"] == 66
    assert "is verified" in rebuild(footfall, "verify")
    assert projector.terminate() == front.terminate() == 0


@pytest.mark.skipif("FOOTFALL_LONG" not in os.environ, reason="1,000,000 events; FOOTFALL_LONG=1")
@pytest.mark.timeout(3_600)
def test_a_million_events_of_which_the_topic_has_one_percent(footfall: Footfall, tmp_path: Path) -> None:
    place, took = tmp_path / "archive", Took()
    history = [sys.executable, "-m", "bench.clients.history", json.dumps({"topic": footfall.topic, "count": 1_000_000})]
    subprocess.run(history, env={**os.environ, **footfall.environment()}, check=True, timeout=900)
    projector = start_projector(footfall)
    with took("projected"):
        wait_until_done(footfall, OLD, 1_000_000, 900)
    with took("archived"):
        ran = archive_json(footfall, place, "run")
    assert ran["records"] == 1_000_000
    with took("verified"):
        verified = archive_json(footfall, place, "verify")
    for partition, (_, end) in verified["spans"].items():
        kept = end - end // 100
        asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, int(partition), kept))
    with took("restored"):
        found = archive_json(footfall, place, "restore")
    assert 9_990 <= sum(seam["compared"] for seam in found["seams"]) <= 10_000
    wait_until_done(footfall, NEW, 1_000_000, 900)
    with took("compared"):
        assert "is verified" in rebuild(footfall, "verify", "--wait", "900")
    rebuild(footfall, "promote")
    assert projector.terminate() == 0
    for number in (0, len(files(place)) // 2, -1):
        path = files(place)[number]
        was = flip(path, path.stat().st_size // 2)
        ((kind, file, what),) = faults(footfall, place)
        assert (kind, file) == ("changed", path.relative_to(place).as_posix())
        assert "offsets" in what
        path.write_bytes(was)
    print(took.seconds, ran["bytes"], len(files(place)))  # noqa: T201 - the figures of docs/performance.md


class Took:
    """Adds up how many seconds each part takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[what] = round(self.seconds.get(what, 0) + time.monotonic() - began, 1)
