"""A process imports the rooms that it runs, and no other: a fault elsewhere cannot keep it from starting."""

import subprocess
import sys

import pytest

from tests.architecture.repository import ROOMS, ROOT
from tests.patience import PATIENCE

RUNS = {
    "command_side": {"command_side", "contracts"},
    "query_side": {"query_side", "read_model", "contracts"},  # which fields are personal data, for the logs
    "projector": {"projector", "contracts", "read_model", "sealing"},
    "sink": {"sinks", "projector", "contracts", "read_model", "sealing"},
    "console": {"console", "contracts", "operations", "projector", "query_side", "read_model", "sealing"},
    "front": {"command_side", "contracts", "query_side", "read_model"},
}
EVERYWHERE = {"brokers", "contracts", "footfall", "identity", "telemetry", "web"}


@pytest.mark.parametrize("process", RUNS)
def test_a_process_imports_no_room_that_it_does_not_run(process: str) -> None:
    program = f"import sys; import footfall.processes.{process}; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    rooms = set(result.stdout.split()) & set(ROOMS)
    assert rooms == RUNS[process] | EVERYWHERE
