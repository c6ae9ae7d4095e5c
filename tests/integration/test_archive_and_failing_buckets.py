"""`footfall archive` and a server of S3 that fails: each request ends, says what to do, and a second run goes on."""

import asyncio
import gc
import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from operations.archive.files import s3_requests
from operations.archive.files.bucket import Bucket as S3Store
from operations.archive.files.refusal import ArchiveError
from operations.settings import ArchiveSettings
from tests.conftest import Footfall
from tests.drivers.archiving import FEW, Bucket, archive, archive_json
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, a_day, rebuild, wait_until_done
from tests.drivers.s3_answers import Answers
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import an_event, produce, record_of, sql, start_projector

CANARY = "alice+canary@example.com"


def store_at(url: str, place: str = "s3://events/nothing") -> S3Store:
    settings = {
        "archive_location": place,
        "archive_s3_endpoint_url": url,
        "archive_s3_region": "us-east-1",
        "archive_s3_access_key_id": "archive",
        "archive_s3_secret_access_key": "secret",
    }
    return S3Store(ArchiveSettings.model_validate(settings))


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        ("403", r"answered ListObjectsV2 with 403.*Allow s3:ListBucket to its credentials"),
        ("403 page", r"answered ListObjectsV2 with 403.*Allow s3:ListBucket to its credentials"),
        ("400 page", r"answered ListObjectsV2 with 400.*Check ARCHIVE_S3_ENDPOINT_URL"),
        ("301", r"sends requests elsewhere. Set ARCHIVE_S3_REGION"),
        ("404 page", r"answered ListObjectsV2 with 404.*Check ARCHIVE_S3_ENDPOINT_URL and ARCHIVE_LOCATION"),
        ("503", r"answered ListObjectsV2 with 503.*Run the command again.*tried for 2 s"),
        ("502 page", r"answered ListObjectsV2 with 502.*Run the command again.*tried for 2 s"),
        ("silent", r"no answer from http://127.0.0.1:\d+ \(ReadTimeoutError\).*Check.*tried for 2 s"),
        ("gone", r"no answer from http://127.0.0.1:\d+ \(ConnectionClosedError\).*Check.*tried for 2 s"),
        ("page", r"no server of S3.*Check ARCHIVE_S3_ENDPOINT_URL"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_server_that_fails_is_given_up_and_the_error_says_what_to_do(server: Answers, fate: str, told: str) -> None:
    server.judge = lambda _method, _path: fate
    with pytest.raises(ArchiveError, match=told):
        store_at(server.url).names("manifest/")


@pytest.mark.usefixtures("hasty")
def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ArchiveError, match=f"no answer from {url}.*Check ARCHIVE_S3_ENDPOINT_URL"):
            store_at(url).names("manifest/")


@pytest.mark.usefixtures("impatient")
def test_a_thousand_reads_of_a_dead_server_end_with_the_first(server: Answers) -> None:
    server.judge = lambda _method, _path: "silent"
    store = store_at(server.url)
    with pytest.raises(ArchiveError, match="no answer from"):
        store.read([f"manifest/{number}" for number in range(1_000)])
    asked = len(server.requests)
    assert asked < 1_000, "the first ones are tried, and the others not"
    with pytest.raises(ArchiveError, match="no answer from"):
        store.remove("records/1")
    assert len(server.requests) == asked


@pytest.mark.usefixtures("impatient")
def test_an_upload_that_nobody_takes_ends(server: Answers, tmp_path: Path) -> None:
    server.judge = lambda _method, _path: "unread"
    (tmp_path / "large").write_bytes(bytes(40_000_000))
    with patch.object(s3_requests, "SLOWEST_UPLOAD", 1e9), pytest.raises(ArchiveError, match=r"no answer.*for 2 s"):
        store_at(server.url).publish(tmp_path / "large", "records/1")


def test_a_store_that_is_left_while_a_loop_runs_closes_its_connections_in_their_own(
    server: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_at(server.url)
    assert store.names("") == []
    left = [store]
    del store

    async def leave() -> None:
        left.clear()
        gc.collect()
        await asyncio.sleep(0)  # a task that was begun here would end here
        await asyncio.sleep(0)

    asyncio.run(leave())
    gc.collect()
    assert "never retrieved" not in caplog.text


def every(number: int, *fates: str) -> Callable[[str, str], str]:
    """Each so many requests are answered by one of the fates in turn."""
    counted, turns = itertools.count(1), itertools.cycle(fates)
    return lambda _method, _path: next(turns) if next(counted) % number == 0 else ""


def erased(footfall: Footfall, bucket: Bucket) -> list[tuple[int, int]]:
    """Archives events of a user who is erased, in some files; returns where they are."""
    canary = [record_of(an_event(CANARY, {"productId": "p-1"})) for _ in range(9)]
    produce(footfall, [*a_day(120), *canary, *a_day(120), *canary, *a_day(60)])
    start_projector(footfall)
    privacy(footfall, "erase", CANARY, "--yes")
    wait_until_done(footfall, OLD, 300 + 18 + 6)
    archive(footfall, bucket.place, "run", given=bucket.settings | FEW)
    assert CANARY.encode() in bucket.bytes()
    known = "SELECT FROM ops.audit WHERE action = 'archive run' AND outcome = 'done'"
    wait_until(lambda: bool(sql(footfall.servers, known)), PATIENCE, "the audit log to have the run")
    return where(bucket)


def where(bucket: Bucket) -> list[tuple[int, int]]:
    """The partition and offset of every record in every file."""
    return sorted((row["partition"], row["offset"]) for row in bucket.archived())


def test_a_rewrite_goes_through_a_server_that_fails_now_and_then(
    footfall: Footfall, bucket: Bucket, server: Answers
) -> None:
    was, given = erased(footfall, bucket), server.settings_for(bucket)
    server.judge = every(3, "503", "500 page", "lost", "half", "gone", "short")
    found = archive_json(footfall, bucket.place, "rewrite", "--yes", given=given)
    assert (found["records"], found["problems"]) == (18 + 6, [])
    assert where(bucket) == was, "each record once"
    assert CANARY.encode() not in bucket.bytes()
    assert archive_json(footfall, bucket.place, "verify", "--head", found["head"], given=given)["strangers"] == 0


@pytest.mark.usefixtures("hasty")
def test_a_rewrite_that_is_refused_loses_nothing_and_a_second_one_ends_it(
    footfall: Footfall, bucket: Bucket, server: Answers
) -> None:
    was, given = erased(footfall, bucket), server.settings_for(bucket)
    files = len(bucket.names("records"))

    def refused(method: str, path: str, by: str = "403") -> str:
        server.judge = lambda asked, at: by if asked == method and path in at else ""
        return archive(footfall, bucket.place, "rewrite", "--yes", code=1, given=given)

    assert "Allow s3:PutObject to its credentials" in refused("PUT", "/records/")
    assert "Allow s3:PutObject to its credentials" in refused("PUT", "/manifest/")
    with patch.object(s3_requests, "READ_TIMEOUT", 0.5):
        assert "no answer from" in refused("PUT", "/manifest/", "silent")
    assert set(where(bucket)) == set(was)
    for _ in range(3):
        assert "Allow s3:DeleteObject to its credentials" in refused("DELETE", "/records/")
    left_by_refused_entries, replaced = 2, 1
    assert len(bucket.names("records")) <= files + left_by_refused_entries + replaced
    server.judge = lambda _method, path: "older" if "list-type" in path and "records" in path else ""
    archive(footfall, bucket.place, "rewrite", "--yes", given=given)
    assert CANARY.encode() not in bucket.bytes(), "a file that was replaced is removed, listed or not"
    server.judge = lambda _method, _path: ""
    found = archive_json(footfall, bucket.place, "rewrite", "--yes", given=given)
    assert found["problems"] == []
    assert where(bucket) == was, "each record once"
    verified = archive_json(footfall, bucket.place, "verify", "--head", found["head"], given=given)
    assert (verified["sound"], verified["strangers"]) == (True, 0)


def test_a_file_whose_removal_is_only_said_to_be_done_is_told(
    footfall: Footfall, bucket: Bucket, server: Answers
) -> None:
    _, given = erased(footfall, bucket), server.settings_for(bucket)
    server.judge = lambda method, path: "200 page" if method == "DELETE" and "/records/" in path else ""
    assert "replaced files are still at" in archive(footfall, bucket.place, "rewrite", "--yes", code=1, given=given)


def test_a_listing_that_is_behind_spoils_nothing(footfall: Footfall, bucket: Bucket, server: Answers) -> None:
    was, given = erased(footfall, bucket), server.settings_for(bucket)
    server.judge = lambda method, path: "old" if "list-type" in path and "manifest" in path else ""
    assert "Another run writes" in archive(footfall, bucket.place, "run", code=1, given=given)
    for command in (("rewrite", "--yes"), ("restore",)):
        assert "not the one that was written" in archive(footfall, bucket.place, *command, code=1, given=given)
    assert where(bucket) == was
    assert archive_json(footfall, bucket.place, "verify", given=bucket.settings)["sound"] is True


def test_a_restore_goes_on_after_a_server_that_died(
    footfall: Footfall, bucket: Bucket, server: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    produce(footfall, a_day(900))
    projector = start_projector(footfall)
    wait_until_done(footfall, OLD, 900)
    given = server.settings_for(bucket)
    archive(footfall, bucket.place, "run", given=given | FEW)
    for fate in ("stall", "half", "silent", "503"):
        reads = itertools.count()

        def dies(method: str, path: str, fate: str = fate, reads: Iterator[int] = reads) -> str:
            return fate if method == "GET" and ".parquet" in path and next(reads) > 8 else ""

        server.judge = dies
        with patch.multiple(s3_requests, GIVE_UP_AFTER=2.0, READ_TIMEOUT=0.5):
            told = archive(footfall, bucket.place, "restore", code=1, given=given)
        assert "tried for 2 s" in told
        assert "is not as it was written" not in told
    gc.collect()
    assert "never retrieved" not in caplog.text, "the other partitions' failures are not printed"
    server.judge = every(3, "503", "half", "short", "gone")
    assert archive_json(footfall, bucket.place, "restore", given=given)["records"] == 900
    wait_until_done(footfall, NEW, 900)
    assert "is verified" in rebuild(footfall, "verify")
    events = sql(footfall.servers, f"SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM {NEW}.processed_events")
    assert [(row["n"], row["ids"]) for row in events] == [(900, 900)]
    assert projector.terminate() == 0
