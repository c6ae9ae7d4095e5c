"""Footfall's commands as an operator runs them, and what they print."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.patience import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]


def environment(footfall: Footfall, url: str, **more: str) -> dict[str, str]:
    return {**os.environ, "ENVIRONMENT": "test", **footfall.environment(), "DATABASE_URL": url, **more}


def status(
    footfall: Footfall, *arguments: str, url: str | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """`footfall status <arguments>`, as a reader unless another URL is given."""
    return subprocess.run(
        [sys.executable, "-m", "footfall", "status", *arguments],
        cwd=REPOSITORY,
        env=environment(footfall, url or footfall.servers.query_url, COLUMNS="200", **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def status_here(
    footfall: Footfall, *arguments: str, url: str | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """The same in this process, for tests that ask again and again: a process of its own costs half a second of CPU."""
    variables = environment(footfall, url or footfall.servers.query_url, COLUMNS="200", **more)
    run = CliRunner().invoke(cli, ["status", *arguments], env=variables)
    assert run.exception is None or isinstance(run.exception, SystemExit), repr(run.exception)
    return subprocess.CompletedProcess(["status", *arguments], run.exit_code, run.stdout, run.stderr)


def as_json(run: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def active(found: dict[str, Any]) -> list[dict[str, Any]]:
    (generation,) = [each for each in found["generations"] if each["state"] == "active"]
    partitions: list[dict[str, Any]] = generation["partitions"]
    return partitions


def owners_command(footfall: Footfall, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    """`footfall <arguments>` with the owner's role."""
    environment = {"ENVIRONMENT": "test", **footfall.environment(), "DATABASE_URL": footfall.servers.admin_url}
    return subprocess.run(
        [sys.executable, "-m", "footfall", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        input=answer,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
