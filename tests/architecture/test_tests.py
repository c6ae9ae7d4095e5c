"""Test modules stand alone: what several need is no test module, and a unit test needs no server."""

import ast
from pathlib import Path

from tests.architecture.repository import ROOT

TESTS = ROOT / "tests"
SERVER_FIXTURES = {"real_servers", "new_database", "new_topic", "new_footfall", "footfall", "shared_footfall"}
SERVER_MODULES = {"tests.drivers.own_broker", "tests.guarded_broker", "tests.own_postgres", "tests.servers"}


def test_no_test_module_imports_another() -> None:
    found = {
        str(path.relative_to(ROOT)): sorted(imported)
        for path in TESTS.rglob("*.py")
        if (imported := {name for name in imports_of(path) if name.rpartition(".")[2].startswith("test_")})
    }
    assert not found, f"move what both need to a module beside them, such as tests/drivers: {found}"


def test_unit_tests_need_no_server() -> None:
    found = {
        path.name: sorted(needed)
        for path in (TESTS / "unit").rglob("*.py")
        if (needed := arguments_of(path) & SERVER_FIXTURES | imports_of(path) & SERVER_MODULES)
    }
    assert not found, f"these belong in tests/integration: {found}"


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports from, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return found


def arguments_of(path: Path) -> set[str]:
    """The names of all arguments of all functions: pytest takes them for fixtures."""
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {argument.arg for function in functions for argument in function.args.args}
