"""`footfall archive` as an operator runs it, and killed in the middle."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
from click.testing import CliRunner

from footfall.cli.archive import terminal
from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.patience import PATIENCE

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


def killed(footfall: Footfall, place: Path | str, *arguments: str, at: str, given: Given = None) -> None:
    """Runs it as a process of its own that is killed at a failpoint."""
    run = subprocess.run(
        [sys.executable, "-m", "footfall", "archive", *arguments],
        env={**os.environ, **_role(footfall, place, given), "FOOTFALL_FAILPOINTS": at},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stdout + run.stderr


def files(place: Path) -> list[Path]:
    """The files of records."""
    return sorted((place / "records").rglob("*.parquet"))


def archived(place: Path) -> list[dict[str, Any]]:
    """Every record of every file, read without Footfall's code."""
    return [row for path in files(place) for row in pq.read_table(path, partitioning=None).to_pylist()]
