"""Where the repository is, and which of its folders are rooms."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "brokers",
    "command_side",
    "console",
    "contracts",
    "footfall",
    "identity",
    "migrations",
    "operations",
    "projector",
    "query_side",
    "read_model",
    "sealing",
    "sinks",
    "telemetry",
    "web",
)

# Bytecode, and what pytest and coverage note for themselves.
CACHES = ("__pycache__/", ".pytest_cache/", ".coverage")


def files_beside_git() -> set[str]:
    """Files of the working tree that are not in the repository, ignored ones included, but for caches."""
    listed = subprocess.run(
        ["git", "ls-files", "--others", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found = {path for path in listed.split("\0") if path and not path.startswith((".venv/", ".tools/"))}
    return {path for path in found if not any(cache in path for cache in CACHES)}


def modules() -> list[Path]:
    """Every Python file of every room, relative to the repository."""
    return sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
