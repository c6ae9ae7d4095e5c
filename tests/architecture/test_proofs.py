"""docs/proofs.md: every promise names tests that exist, and every test module has a promise."""

import re

import pytest

from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "proofs.md").read_text()
ROWS = re.findall(r"^\| ((?!promise|---|\*\*)[^|]+) \| ([^|]*) \|$", PAGE, re.MULTILINE)
COMMANDS = {"make chaos", "make containers"}


@pytest.mark.parametrize(("promise", "proofs"), ROWS, ids=[promise[:60] for promise, _ in ROWS])
def test_a_promise_names_tests_that_exist(promise: str, proofs: str) -> None:
    named = re.findall(r"`([^`]+)`", proofs)
    assert named, "a promise without a proof"
    assert [name for name in named if name not in COMMANDS and not (ROOT / name).is_file()] == []


def test_every_test_module_proves_a_promise() -> None:
    named = {name for _, proofs in ROWS for name in re.findall(r"`([^`]+)`", proofs)}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert modules - named == set(), "give these a row in docs/proofs.md, or add them to one"


def test_the_page_has_one_table_of_promises() -> None:
    assert len(ROWS) >= 40
    assert PAGE.count("|---|---|") == 1
