"""The import contracts of pyproject.toml are checked by `make check`; here the check itself is checked."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.repository import ROOMS, ROOT
from tests.patience import PATIENCE

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

# One forbidden import for each contract, by the contract's id.
VIOLATIONS = {
    "contracts": ("contracts", "import sqlalchemy"),
    "brokers": ("brokers", "import asyncpg"),
    "command-side": ("command_side", "import asyncpg"),
    "projector": ("projector", "import command_side"),
    "read-model": ("read_model", "import contracts"),
    "query-side": ("query_side", "import aiokafka"),
    "telemetry": ("telemetry", "import litestar"),
    "web": ("web", "import command_side"),
    "identity": ("identity", "import asyncpg"),
    "sealing": ("sealing", "import aiokafka"),
    "operations": ("operations", "import footfall"),
    "console": ("console", "import command_side"),
    "sinks": ("sinks", "import operations"),
    "migrations": ("migrations", "import read_model"),
    "footfall": ("footfall", "import bench"),
}


@pytest.fixture
def rooms_elsewhere(tmp_path: Path) -> Path:
    """A copy of the rooms, to plant imports in."""
    for room in (*ROOMS, "bench"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_each_contract_has_a_violation_to_catch() -> None:
    assert {contract["id"] for contract in _contracts()} == VIOLATIONS.keys()


def test_the_rooms_keep_every_contract(rooms_elsewhere: Path) -> None:
    result = _lint_imports(rooms_elsewhere)
    assert result.returncode == 0, result.stdout
    assert f"Contracts: {len(VIOLATIONS)} kept, 0 broken." in result.stdout


def test_a_planted_import_breaks_each_contract(rooms_elsewhere: Path) -> None:
    for room, statement in VIOLATIONS.values():
        (rooms_elsewhere / room / "planted.py").write_text(f"{statement}\n")

    result = _lint_imports(rooms_elsewhere)

    assert result.returncode == 1, result.stdout
    kept = [contract["name"] for contract in _contracts() if f"{contract['name']} BROKEN" not in result.stdout]
    assert not kept, f"these contracts let a planted import pass: {kept}\n{result.stdout}"


def test_an_import_through_another_room_is_caught(rooms_elsewhere: Path) -> None:
    (rooms_elsewhere / "telemetry" / "planted.py").write_text("import litestar\n")
    (rooms_elsewhere / "projector" / "planted.py").write_text("import telemetry.planted\n")

    result = _lint_imports(rooms_elsewhere)

    assert result.returncode == 1, result.stdout
    assert "projector is not allowed to import litestar" in result.stdout


def _contracts() -> list[dict[str, str]]:
    contracts: list[dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return contracts


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,  # seconds
    )
