"""Footfall's commands as an operator runs them, and what they print."""

import json
import subprocess
from typing import Any

from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.processes import run_to_end


def environment(footfall: Footfall, url: str, **more: str) -> dict[str, str]:
    return {"ENVIRONMENT": "test", **footfall.environment(), "DATABASE_URL": url, **more}


def status(
    footfall: Footfall, *arguments: str, url: str | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """`footfall status <arguments>`, as a reader unless another URL is given."""
    variables = environment(footfall, url or footfall.servers.query_url, COLUMNS="200", **more)
    return run_to_end("status", *arguments, environment=variables)


def status_here(
    footfall: Footfall, *arguments: str, url: str | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """The same in this process, for tests that ask again and again: a process of its own costs half a second of CPU."""
    variables = environment(footfall, url or footfall.servers.query_url, COLUMNS="200", **more)
    ended = CliRunner().invoke(cli, ["status", *arguments], env=variables)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), repr(ended.exception)
    return subprocess.CompletedProcess(["status", *arguments], ended.exit_code, ended.stdout, ended.stderr)


def as_json(run: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def active(found: dict[str, Any]) -> list[dict[str, Any]]:
    (generation,) = [each for each in found["generations"] if each["state"] == "active"]
    partitions: list[dict[str, Any]] = generation["partitions"]
    return partitions


def owners_command(footfall: Footfall, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    """`footfall <arguments>` with the owner's role."""
    return run_to_end(*arguments, environment=environment(footfall, footfall.servers.admin_url), answers=answer)
