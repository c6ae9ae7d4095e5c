"""What several rooms use is defined once, and everybody imports it from there."""

import ast
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, modules

DEFINED_IN = {
    "Connection": {"read_model/connecting/pool.py"},
    "Envelope": {"web/envelope.py"},
    "EventFilter": {"query_side/events/filters.py"},
    "OwnedPosition": {"projector/consuming/batch.py"},
    "Position": {"query_side/log_positions/positions.py"},
    "RefusedError": {"operations/refusal.py", "web/policies/decisions.py"},  # of a command, and of a request
}


def definitions(path: Path) -> set[str]:
    """The names that a module gives to a class, a type or an import of its own choice."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname for alias in node.names if alias.asname not in (None, alias.name)}
    return found


@pytest.fixture(scope="module")
def defined() -> dict[str, set[str]]:
    """Each module to the names that it defines."""
    return {str(path): definitions(path) for path in modules()}


@pytest.mark.parametrize("name", DEFINED_IN)
def test_a_name_of_several_rooms_is_defined_once(name: str, defined: dict[str, set[str]]) -> None:
    assert {path for path, names in defined.items() if name in names} == DEFINED_IN[name]


def test_the_connection_of_a_pool_or_not_is_written_once() -> None:
    found = {str(path) for path in modules() if "PoolConnectionProxy |" in (ROOT / path).read_text()}
    assert found == DEFINED_IN["Connection"]


def test_the_envelope_is_written_once() -> None:
    """An item of a batch has a status and a position, too: its bytes are spliced in `batch.py`."""
    literals = ('{"success":true,"event"', '{"success":false,"event"')
    found = {str(path) for path in modules() if any(text in (ROOT / path).read_text() for text in literals)}
    assert found == {"web/envelope.py"}
