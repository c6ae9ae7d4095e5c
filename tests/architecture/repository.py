"""Where the repository is, and which of its folders are rooms."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "command_side",
    "contracts",
    "footfall",
    "migrations",
    "operations",
    "projector",
    "query_side",
    "read_model",
    "telemetry",
    "web",
)


def modules() -> list[Path]:
    """Every Python file of every room, relative to the repository."""
    return sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
