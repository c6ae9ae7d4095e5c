"""The tables in the documents say what the code says."""

import ast
import re

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from footfall.settings_page import READERS
from telemetry import server_facts
from telemetry.metrics import HTTP_METRICS, REGISTRY
from tests.architecture.repository import ROOT, modules

SETTINGS = tuple(READERS.values())


def table_rows(document: str) -> dict[str, str]:
    """First cell (without backticks) to the whole row, of every table in the document."""
    rows = re.findall(r"^\| `(\w+)` \|.*$", (ROOT / document).read_text(), re.MULTILINE)
    text = (ROOT / document).read_text().splitlines()
    return {name: next(line for line in text if line.startswith(f"| `{name}` |")) for name in rows}


@pytest.mark.parametrize("reader", READERS)
def test_settings_page_lists_every_setting_with_its_default_and_its_readers(reader: str) -> None:
    rows = table_rows("docs/settings.md")
    for name, field in READERS[reader].model_fields.items():
        row = rows.get(name.upper())
        assert row, f"docs/settings.md misses {name.upper()}: run `python -m footfall.documents --write`"
        assert reader in row.split("|")[4]
        if not field.is_required() and isinstance(field.default, int | str) and field.default != "":
            assert f"`{field.default}`" in row


def test_settings_page_lists_no_setting_that_is_gone() -> None:
    known = {name.upper() for kind in SETTINGS for name in kind.model_fields} | {"ENVIRONMENT"}
    listed = {name for name in table_rows("docs/settings.md") if name.isupper()}
    assert listed <= known


def test_settings_page_misses_no_class_of_settings() -> None:
    """A class that only others extend, such as KafkaSettings, is read by those."""
    declared = {
        node.name
        for path in modules()
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")
    }
    read = {ancestor.__name__ for kind in SETTINGS for ancestor in kind.__mro__}
    assert declared - read == {"FrontSettings", "ConsoleSettings"}, "they read those of others"


def test_metrics_page_lists_exactly_the_metrics() -> None:
    declared = set()
    assert len(set(server_facts.REASONS)) == len(server_facts.REASONS)  # its metrics are declared when it is imported
    for family in REGISTRY.collect():
        declared.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert set(table_rows("docs/metrics.md")) == declared


def test_metrics_are_named_by_their_base_units() -> None:
    """https://prometheus.io/docs/practices/naming/: seconds and bytes, and `_total` for what only grows."""
    ends = {"counter": "_total", "histogram": "_seconds"}
    scaled = re.compile(r"_(ms|millis\w*|us|minutes?|hours|days|kb|mb|kib|mib|percent)(_|$)")
    for family in REGISTRY.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name.endswith(ends.get(family.type, "")), name
        assert family.type != "gauge" or not name.endswith(("_total", "_count", "_sum", "_bucket")), name
        assert not scaled.search(name), name


def test_metrics_page_lists_exactly_the_labels() -> None:
    rows = table_rows("docs/metrics.md")
    for collector in {*REGISTRY._names_to_collectors.values()}:
        if not isinstance(collector, MetricWrapperBase):
            assert collector is HTTP_METRICS or isinstance(collector, ProcessCollector)
            continue
        [name] = {name for name in rows if name.removesuffix("_total") == collector._name}
        assert set(re.findall(r"`(\w+)`", rows[name].split("|")[3])) == set(collector._labelnames), name


def test_every_test_that_the_documents_name_is_there() -> None:
    for document in ("docs/proofs.md", "docs/reliability.md"):
        named = set(re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)`", (ROOT / document).read_text()))
        assert named
        found = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
        missing = {name for name in named if not ((ROOT / name).is_file() or ("/" not in name and name in found))}
        assert not missing, f"{document} names tests that are not there"


def test_every_file_that_the_architecture_page_names_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\| (\d+) \| `([\w/]+\.py)` \|", page, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, 13)), "twelve files, in order"
    missing = [name for name in re.findall(r"`([\w/]+\.py)`", page) if not (ROOT / name).is_file()]
    assert not missing, f"the stranger's path leads to files that are not there: {missing}"
    assert "command_side/api/fast_single.py" in {name for _, name in steps}, "the way of nearly every POST"


def test_the_drawing_of_the_rooms_shows_every_room_and_folder() -> None:
    drawn, room = set(), ""
    for indent, name in re.findall(r"^    ( *)(\w+)/ ", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE):
        room = room if indent else name
        drawn.add(f"{room}/{name}" if indent else name)
    packages = {path.parent for path in modules() if path.name == "__init__.py" and len(path.parent.parts) <= 2}
    folders = {str(path) for path in packages if path.parts[0] != "migrations"} | {"migrations"}
    assert folders - drawn == set(), "docs/architecture.md misses these"
    assert {name for name in drawn if not (ROOT / name).is_dir()} == set(), "docs/architecture.md draws what is gone"


PAGES = sorted(path.name for path in ROOT.glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_at_the_top_lead_somewhere(page: str) -> None:
    """The links between pages of `docs/` are checked by `mkdocs build --strict`."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", (ROOT / page).read_text())
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_readme_is_short_and_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert re.search(r"^    make demo ", text, re.MULTILINE)
    assert re.search(r"^    make test ", text, re.MULTILINE)
    assert len(re.findall(r"^curl ", text, re.MULTILINE)) == 5
