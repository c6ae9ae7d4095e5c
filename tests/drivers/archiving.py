"""`footfall archive` as an operator runs it, and killed in the middle."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pyarrow.parquet as pq
from click.testing import CliRunner
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from s3fs import S3FileSystem

from footfall.cli.archive import terminal
from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.processes import run_to_end

FEW = {"ARCHIVE_FILE_RECORDS": "40"}  # in a file, so that some hundred records are many files

Given = Mapping[str, str] | None  # more settings


def _role(footfall: Footfall, place: Path | str, given: Given) -> dict[str, str]:
    named = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.admin_url, "ARCHIVE_LOCATION": str(place)}
    return {**named, **footfall.environment(), **(given or {})}


def archive(footfall: Footfall, place: Path | str, *arguments: str, code: int = 0, given: Given = None) -> str:
    """Runs `footfall archive <arguments>`; returns what it prints, with errors if it fails."""
    with patch.object(terminal, "configure_logs"):  # this process has its own
        run = CliRunner().invoke(cli, ["archive", *arguments], env=_role(footfall, place, given))
    assert run.exit_code == code, f"{run.output}{run.exception!r}"
    return run.output if code else run.stdout


def archive_json(footfall: Footfall, place: Path | str, *arguments: str, code: int = 0, given: Given = None) -> Any:
    """The same with `--json`."""
    printed = archive(footfall, place, *arguments, "--json", code=code, given=given)
    return json.loads(printed.splitlines()[-1])  # the logs of this process come before it


def started(
    footfall: Footfall, place: Path | str, *arguments: str, at: str = "", given: Given = None
) -> subprocess.Popen[str]:
    """Starts it as a process of its own. `at`: its failpoints."""
    return subprocess.Popen(
        [sys.executable, "-m", "footfall", "archive", *arguments],
        env={**os.environ, **_role(footfall, place, given), "FOOTFALL_FAILPOINTS": at},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed(footfall: Footfall, place: Path | str, *arguments: str, at: str, given: Given = None) -> None:
    """Runs it as a process of its own that is killed at a failpoint."""
    run = run_to_end("archive", *arguments, environment={**_role(footfall, place, given), "FOOTFALL_FAILPOINTS": at})
    assert run.returncode == -signal.SIGKILL, run


class Bucket:
    """A bucket of moto's server. `place`: a folder of it; `settings`: how to reach it."""

    def __init__(self, host: str, port: int) -> None:
        self.settings = {
            "ARCHIVE_S3_ENDPOINT_URL": f"http://{host}:{port}",
            "ARCHIVE_S3_REGION": "us-east-1",
            "ARCHIVE_S3_ACCESS_KEY_ID": "archive",
            "ARCHIVE_S3_SECRET_ACCESS_KEY": "secret",
        }
        client = {"endpoint_url": self.settings["ARCHIVE_S3_ENDPOINT_URL"], "region_name": "us-east-1"}
        options = {"key": "a", "secret": "b", "client_kwargs": client, "use_listings_cache": False}
        self._fs, self._of_versions = S3FileSystem(**options), S3FileSystem(**options, version_aware=True)
        self._fs.call_s3("create_bucket", Bucket="events")
        self.place = ""

    def new_folder(self) -> None:
        """Goes on in an empty folder. All servers of one process share what they store."""
        self.place = f"s3://events/archive-{uuid4()}"

    def names(self, folder: str) -> list[str]:
        """The objects below a folder of the archive."""
        found: list[str] = self._fs.find(f"{self.place}/{folder}")
        return found

    def bytes_of_versions(self) -> bytes:
        """Whatever a bucket that keeps versions holds, whether it was removed or not."""
        name = self.place.split("/")[2]
        listed = self._fs.call_s3("list_object_versions", Bucket=name)["Versions"]
        paths = [f"{name}/{one['Key']}?versionId={one['VersionId']}" for one in listed]
        return b"".join(self._of_versions.cat_file(path) for path in paths)

    def bytes(self) -> bytes:
        """Whatever the archive's objects hold."""
        return b"".join(self._fs.cat_file(name) for name in self.names(""))

    def archived(self) -> list[dict[str, Any]]:
        """See `archived`."""
        tables = (pq.read_table(name, filesystem=self._fs, partitioning=None) for name in self.names("records"))
        return [row for table in tables for row in table.to_pylist()]

    def keep_versions(self) -> None:
        """Goes on in a bucket of its own that keeps versions."""
        name = f"versions-{uuid4()}"
        self._fs.call_s3("create_bucket", Bucket=name)
        kept = {"Status": "Enabled"}
        self._fs.call_s3("put_bucket_versioning", Bucket=name, VersioningConfiguration=kept)
        self.place = f"s3://{name}/archive"

    def lock(self) -> None:
        """Goes on in a bucket of its own in which every version is locked for a day, against its owner, too."""
        name = f"locked-{uuid4()}"
        self._fs.call_s3("create_bucket", Bucket=name, ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        self._fs.call_s3("put_object_lock_configuration", Bucket=name, ObjectLockConfiguration=configuration)
        self.place = f"s3://{name}/archive"

    def remove_versions(self) -> Iterator[str]:
        """Tries to remove every version of every object for ever; yields what the server says of each that stays."""
        name = self.place.split("/")[2]
        for one in self._fs.call_s3("list_object_versions", Bucket=name)["Versions"]:
            try:
                self._fs.call_s3("delete_object", Bucket=name, Key=one["Key"], VersionId=one["VersionId"])
            except PermissionError as error:
                yield str(error)

    def make_folder(self, name: str) -> None:
        """Makes an object that stands for a folder."""
        folder = self.place.removeprefix("s3://events/")
        self._fs.call_s3("put_object", Bucket="events", Key=f"{folder}/{name}", Body=b"")

    def hide_newest_entry(self) -> Callable[[], None]:
        """Removes the last entry of the manifest; what it returns puts it back."""
        name = self.names("manifest")[-1]
        was = self._fs.cat_file(name)
        self._fs.rm_file(name)
        return lambda: self._fs.pipe_file(name, was)


@contextmanager
def a_bucket() -> Iterator[Bucket]:
    """Runs moto's server, and makes a bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield Bucket(*server.get_host_and_port())
    finally:
        server.stop()


def files(place: Path) -> list[Path]:
    """The files of records."""
    return sorted((place / "records").rglob("*.parquet"))


def archived(place: Path) -> list[dict[str, Any]]:
    """Every record of every file, read without Footfall's code."""
    return [row for path in files(place) for row in pq.read_table(path, partitioning=None).to_pylist()]
