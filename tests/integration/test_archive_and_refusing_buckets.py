"""`footfall archive` and answers of S3 that are lost, refused, or true of something else: each record once."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from operations.archive.files.bucket import Bucket as S3Store
from operations.archive.files.refusal import ArchiveError
from operations.settings import ArchiveSettings
from tests.conftest import Footfall
from tests.drivers.archiving import FEW, Bucket, archive, archive_json, killed
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import OLD, a_day, wait_until_done
from tests.drivers.s3_answers import Answers
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import an_event, produce, record_of, sql, start_projector

PART = 5 * 1024 * 1024  # bytes; S3 takes no smaller part before the last
CANARY = "alice+canary@example.com"


@pytest.fixture
def uploaded(server: Answers, bucket: Bucket, tmp_path: Path) -> Iterator[Callable[[], bytes]]:
    """Sends a file in three parts; returns what the bucket has afterwards."""
    settings = {"archive_location": bucket.place} | {name.lower(): value for name, value in bucket.settings.items()}
    settings["archive_s3_endpoint_url"] = server.url
    content = bytes(range(256)) * (2 * PART // 256 + 1_000)

    def upload() -> bytes:
        (tmp_path / "file").write_bytes(content)
        with closing(S3Store(ArchiveSettings.model_validate(settings))) as store:
            store.publish(tmp_path / "file", "records/file")
        assert bucket.bytes() == content
        return content

    with patch("s3fs.core.calculate_chunksize", lambda *_, **__: PART):
        yield upload


def first_completion(*fates: str) -> Callable[[str, str], str]:
    """What completions of an upload are answered, one after another; its parts go through."""
    turns = iter(fates)
    return lambda method, path: next(turns, "") if method == "POST" and "uploadId=" in path else ""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "fates",
    [
        ["lost", "404 NoSuchUpload"],
        ["done 200 InternalError", "404 NoSuchUpload"],
        ["done 200 page", "404 NoSuchUpload"],
        ["done 503 SlowDown", "404 NoSuchUpload"],
        ["200 InternalError"],
        ["503 SlowDown", "gone"],
    ],
)
def test_an_upload_in_parts_is_there_whatever_its_completion_was_answered(
    server: Answers, uploaded: Callable[[], bytes], fates: list[str]
) -> None:
    server.judge = first_completion(*fates)
    uploaded()


@pytest.mark.usefixtures("hasty")
def test_an_upload_in_parts_that_the_server_forgot_is_told(server: Answers, uploaded: Callable[[], bytes]) -> None:
    server.judge = first_completion("404 NoSuchUpload")
    with pytest.raises(ArchiveError, match=r"CompleteMultipartUpload with 404 \(NoSuchUpload.*Run the command again"):
        uploaded()


@pytest.mark.usefixtures("hasty")
def test_a_refused_part_is_told_and_not_that_its_upload_could_not_be_ended(
    server: Answers, uploaded: Callable[[], bytes]
) -> None:
    server.judge = lambda method, path: "403 AccessDenied" if "partNumber" in path or method == "DELETE" else ""
    with pytest.raises(ArchiveError, match=r"answered UploadPart with 403 \(AccessDenied.*Allow s3:PutObject"):
        uploaded()


def nth(number: int, fate: str, what: Callable[[str, str], bool]) -> Callable[[str, str], str]:
    """From the nth of these requests on, all are answered by the fate."""
    counted = itertools.count(1)
    return lambda method, path: fate if what(method, path) and next(counted) >= number else ""


def is_record(method: str, path: str) -> bool:
    return method == "PUT" and "/records/" in path


def is_entry(method: str, path: str) -> bool:
    return method == "PUT" and "/manifest/" in path


def is_size(method: str, _path: str) -> bool:
    return method == "HEAD"


def is_removal(method: str, _path: str) -> bool:
    return method == "DELETE"


@pytest.mark.usefixtures("hasty")
def test_a_run_that_is_refused_in_the_middle_says_why_and_the_next_goes_on(
    footfall: Footfall, bucket: Bucket, server: Answers
) -> None:
    produce(footfall, a_day(400))
    given = server.settings_for(bucket) | FEW
    for judge, told in (
        (nth(2, "403 AccessDenied", is_record), "Allow s3:PutObject to its credentials"),
        (nth(1, "done 403 AccessDenied", is_entry), "Allow s3:PutObject to its credentials"),
        (nth(2, "503 SlowDown", is_record), "(SlowDown: Refused). Run the command again"),
        (nth(2, "400 ExpiredToken", is_record), "Get credentials of a new session"),
        (nth(1, "400", is_size), "Get credentials of a new session"),
        (nth(2, "lost", is_record), "no answer from"),
        (nth(1, "lost", is_entry), "no answer from"),
    ):
        server.judge = judge
        assert told in archive(footfall, bucket.place, "run", code=1, given=given)
        found = archive_json(footfall, bucket.place, "verify", given=bucket.settings)
        assert found["sound"] is True
        assert found["strangers"] == len(bucket.names("records")) - found["files"]
    server.judge = lambda _method, _path: ""
    archive(footfall, bucket.place, "run", given=given)
    assert_whole(footfall, bucket, 400)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (nth(1, "403 AccessDenied", is_removal), "Allow s3:DeleteObject to its credentials"),
        (nth(1, "gone", is_removal), "no answer from"),
        (nth(1, "503 SlowDown", lambda _method, path: "list-type" in path and "records" in path), "with 503"),
    ],
    ids=["no right", "server gone", "no listing"],
)
def test_a_run_that_cannot_remove_what_killed_runs_left_has_archived_all_the_same(
    footfall: Footfall, bucket: Bucket, server: Answers, tmp_path: Path, judge: Callable[[str, str], str], told: str
) -> None:
    produce(footfall, a_day(100))
    killed(footfall, bucket.place, "run", at="archive_written=kill", given=bucket.settings)
    given, file = server.settings_for(bucket), tmp_path / "archive.prom"
    server.judge = judge
    ran = archive_json(footfall, bucket.place, "run", "--metrics-file", str(file), given=given)
    assert (ran["records"], ran["removed"], ran["problems"]) == (100, 0, [])
    assert told in ran["notes"][0]
    assert "no part of the archive" in ran["notes"][0]
    assert "archive_partitions_refused 0.0" in file.read_text()
    found = archive_json(footfall, bucket.place, "verify", given=bucket.settings)
    assert (found["sound"], found["strangers"], found["head"]) == (True, 1, ran["head"])
    known = f"SELECT FROM ops.audit WHERE action = 'archive run' AND outcome = 'done' AND target LIKE '%{ran['head']}%'"
    start_projector(footfall)
    wait_until(lambda: bool(sql(footfall.servers, known)), PATIENCE, "the audit log to have the run")
    server.judge = lambda _method, _path: ""
    again = archive_json(footfall, bucket.place, "run", given=given)
    assert (again["records"], again["removed"], again["notes"]) == (0, 1, [])
    assert_whole(footfall, bucket, 100)


def test_a_run_whose_metrics_cannot_be_written_says_that_it_has_archived(footfall: Footfall, tmp_path: Path) -> None:
    produce(footfall, a_day(10))
    nowhere = str(tmp_path / "missing" / "archive.prom")
    said = archive(footfall, tmp_path / "archive", "run", "--metrics-file", nowhere, code=1)
    assert "10 records in" in said
    assert "Archived, and without metrics: The metrics' file cannot be used" in said


def test_a_bucket_whose_versions_are_locked_is_archived_into_and_keeps_them(
    footfall: Footfall, bucket: Bucket, server: Answers
) -> None:
    bucket.lock()
    produce(footfall, a_day(100))
    given = server.settings_for(bucket) | FEW
    killed(footfall, bucket.place, "run", at="archive_written=kill@2", given=given)
    ran = archive_json(footfall, bucket.place, "run", given=given)
    assert (ran["removed"], ran["notes"], ran["problems"]) == (1, [], [])
    produce(footfall, a_day(50))
    assert archive_json(footfall, bucket.place, "run", given=given)["records"] == 50
    assert_whole(footfall, bucket, 150)
    assert server.unproven == []
    was = bucket.bytes_of_versions()
    assert {said for said in bucket.remove_versions() if "Denied" not in said} == set()
    assert bucket.bytes_of_versions() == was
    assert archive_json(footfall, bucket.place, "verify", given=given)["sound"] is True


def assert_whole(footfall: Footfall, bucket: Bucket, count: int) -> None:
    """Each record is in the archive once, and nothing else is there."""
    assert len({(row["partition"], row["offset"]) for row in bucket.archived()}) == count == len(bucket.archived())
    found = archive_json(footfall, bucket.place, "verify", given=bucket.settings)
    assert (found["sound"], found["records"], found["strangers"]) == (True, count, 0)


@pytest.mark.usefixtures("hasty")
def test_a_listing_of_many_pages_is_read_to_its_end_or_not_at_all(
    footfall: Footfall, bucket: Bucket, server: Answers
) -> None:
    produce(footfall, a_day(400))
    given = server.settings_for(bucket) | FEW
    server.names_on_a_page = 3
    archive(footfall, bucket.place, "run", given=given)
    for fate, told in (("403 AccessDenied", "Allow s3:ListBucket"), ("page", "no server of S3"), ("503", "with 503")):
        server.judge = lambda _method, path, fate=fate: fate if "continuation-token" in path else ""  # type: ignore[misc]
        for command in ("run", "verify"):
            assert told in archive(footfall, bucket.place, command, code=1, given=given)
    turns = itertools.cycle(["503 SlowDown", "lost", "half", ""])
    server.judge = lambda _method, path: next(turns) if "continuation-token" in path else ""
    produce(footfall, a_day(100))
    assert archive_json(footfall, bucket.place, "run", given=given)["records"] == 100
    assert_whole(footfall, bucket, 500)


def test_a_bucket_that_keeps_versions_is_said_to_keep_what_a_rewrite_removed(
    footfall: Footfall, bucket: Bucket
) -> None:
    bucket.keep_versions()
    produce(footfall, [*a_day(40), *[record_of(an_event(CANARY)) for _ in range(9)]])
    start_projector(footfall)
    privacy(footfall, "erase", CANARY, "--yes")
    wait_until_done(footfall, OLD, 49 + 6)
    archive(footfall, bucket.place, "run", given=bucket.settings)
    known = "SELECT FROM ops.audit WHERE action = 'archive run' AND outcome = 'done'"
    wait_until(lambda: bool(sql(footfall.servers, known)), PATIENCE, "the audit log to have the run")
    found = archive_json(footfall, bucket.place, "rewrite", "--yes", given=bucket.settings)
    assert found["problems"] == []
    assert "keeps versions" in found["notes"][0]
    assert CANARY.encode() not in bucket.bytes()
    assert CANARY.encode() in bucket.bytes_of_versions()
    assert archive_json(footfall, bucket.place, "verify", given=bucket.settings)["sound"] is True
