"""Each decision record is short, complete, and names the files that hold it up."""

import re
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT

RECORDS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
MAX_LINES = 45  # half a page


def test_records_are_numbered_without_a_gap() -> None:
    assert RECORDS
    assert [record.name[:5] for record in RECORDS] == [f"{number:04}-" for number in range(1, len(RECORDS) + 1)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_has_context_decision_and_consequences(record: Path) -> None:
    text = record.read_text()
    assert re.match(rf"# {int(record.name[:4])}\. \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_names_existing_files_that_enforce_it(record: Path) -> None:
    last_line = record.read_text().rstrip().splitlines()[-1]
    assert last_line.startswith("Enforced by: ")
    names = [re.sub(r" \(.*\)$", "", name) for name in last_line.removeprefix("Enforced by: ").split(", ")]
    missing = [name for name in names if not (ROOT / name).is_file()]
    assert not missing, f"{record.name} is enforced by files that do not exist: {missing}"
