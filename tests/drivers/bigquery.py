"""An emulator of BigQuery: `bqemulator` of PyPI, whose own SQL is DuckDB's."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run

import httpx

from footfall.local.embedded import spawn_child
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

DUCKDB = "1.5.5"
PACKAGES = (
    "bqemulator==1.4.0",
    f"duckdb=={DUCKDB}",
    f"duckdb-extension-spatial=={DUCKDB}",
    f"duckdb-extension-icu=={DUCKDB}",
    f"duckdb-extension-json=={DUCKDB}",
    "numpy",
)
STARTS_IN = 60.0  # seconds
PROJECT, DATASET = "project", "footfall"


def environment() -> Path | None:
    """A virtual environment: BQEMULATOR_ENV, or with FOOTFALL_LONG=1 one that is made; otherwise None."""
    if given := os.environ.get("BQEMULATOR_ENV"):
        return Path(given)
    if not os.environ.get("FOOTFALL_LONG"):
        return None
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "footfall-tests" / "bqemulator-1.4.0"
    if not (home / "bin" / "bqemulator").exists():
        run([sys.executable, "-m", "venv", str(home)], check=True)
        run([str(home / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)
    return home


@contextmanager
def bigquery(home: Path) -> Iterator[str]:
    """Runs it with a dataset; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="footfall-bigquery-") as directory:
        extensions = Path(directory) / ".duckdb" / "extensions" / f"v{DUCKDB}" / "linux_amd64"
        extensions.mkdir(parents=True)
        for file in home.glob("lib/*/site-packages/duckdb_extension_*/extensions/*/*.duckdb_extension"):
            (extensions / file.name).symlink_to(file)
        port = free_port()
        started = spawn_child(
            [str(home / "bin" / "bqemulator"), "start", "--rest-port", str(port), "--grpc-port", "0"],
            death_signal=signal.SIGKILL,
            env={**os.environ, "HOME": directory},
            log_path=Path(directory) / "out.log",
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _answers(url), STARTS_IN, "the emulator of BigQuery")
            body = {"datasetReference": {"projectId": PROJECT, "datasetId": DATASET}}
            httpx.post(f"{url}/bigquery/v2/projects/{PROJECT}/datasets", json=body, trust_env=False).raise_for_status()
            yield url
        finally:
            started.kill()
            started.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False
