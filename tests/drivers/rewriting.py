"""`footfall privacy rewrite` as an operator runs it, and killed in the middle."""

import json
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.processes import run_to_end
from tests.producing import committed_records


def rewrite(footfall: Footfall, *arguments: str, code: int = 0, killed_at: str = "", failpoints: str = "") -> str:
    """Runs `footfall privacy rewrite <arguments>`; returns what it prints."""
    role = {**environment_of(footfall), "FOOTFALL_FAILPOINTS": failpoints}
    if killed_at:
        return _killed(role, arguments, killed_at)
    ended = CliRunner().invoke(cli, ["privacy", "rewrite", *arguments], env=role)
    assert ended.exit_code == code, f"{ended.output}{ended.exception!r}"
    return ended.output if code else ended.stdout


def environment_of(footfall: Footfall) -> dict[str, str]:
    """The environment of the operator."""
    return {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.admin_url, **footfall.environment()}


def _killed(role: Mapping[str, str], arguments: Sequence[str], point: str) -> str:
    ended = run_to_end("privacy", "rewrite", *arguments, environment={**role, "FOOTFALL_FAILPOINTS": f"{point}=kill"})
    assert ended.returncode == -signal.SIGKILL, ended.stdout + ended.stderr
    return ended.stdout


def rewrite_json(footfall: Footfall, *arguments: str) -> dict[str, Any]:
    """The same with `--json`."""
    found: dict[str, Any] = json.loads(rewrite(footfall, *arguments, "--json"))
    return found


def bytes_of(footfall: Footfall, topic: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    """What every record of a topic says, by partition and offset; of transactions, also aborted ones."""
    return {
        (record.partition, record.offset): (record.key, record.value, tuple(record.headers), record.timestamp)
        for record in committed_records(footfall.servers.kafka, topic)
    }
