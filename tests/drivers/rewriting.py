"""`footfall privacy rewrite` as an operator runs it, and killed in the middle."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.producing import committed_records


def rewrite(footfall: Footfall, *arguments: str, code: int = 0, killed_at: str = "") -> str:
    """Runs `footfall privacy rewrite <arguments>`; returns what it prints."""
    role = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.admin_url, "FOOTFALL_TRACEBACK": "1"}
    points = {"FOOTFALL_FAILPOINTS": f"{killed_at}=kill"} if killed_at else {}
    run = subprocess.run(
        [sys.executable, "-m", "footfall", "privacy", "rewrite", *arguments],
        env={**os.environ, **role, **points, **footfall.environment()},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == (-signal.SIGKILL if killed_at else code), run.stdout + run.stderr
    return run.stderr if code else run.stdout


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
