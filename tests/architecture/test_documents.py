"""The tables in the documents say what the code says."""

import re

import pytest
from pydantic_settings import BaseSettings

from command_side.settings import CommandSettings
from footfall.cli.sql_prompt import SqlSettings
from operations.settings import GrantReporterSettings, MigrateSettings, RebuildSettings, TopicSettings
from projector.settings import ProjectorSettings
from query_side.settings import QuerySettings
from telemetry.metrics import REGISTRY
from tests.architecture.repository import ROOT

SETTINGS: tuple[type[BaseSettings], ...] = (
    CommandSettings,
    ProjectorSettings,
    QuerySettings,
    MigrateSettings,
    TopicSettings,
    RebuildSettings,
    GrantReporterSettings,
    SqlSettings,
)


def table_rows(document: str) -> dict[str, str]:
    """First cell (without backticks) to the whole row, of every table in the document."""
    rows = re.findall(r"^\| `(\w+)` \|.*$", (ROOT / document).read_text(), re.MULTILINE)
    text = (ROOT / document).read_text().splitlines()
    return {name: next(line for line in text if line.startswith(f"| `{name}` |")) for name in rows}


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda kind: kind.__name__)
def test_readme_lists_every_setting_with_its_default(settings: type[BaseSettings]) -> None:
    rows = table_rows("README.md")
    for name, field in settings.model_fields.items():
        row = rows.get(name.upper())
        assert row, f"README.md misses {name.upper()}"
        if not field.is_required() and isinstance(field.default, int | str) and field.default != "":
            assert f"`{field.default}`" in row


def test_readme_lists_no_setting_that_is_gone() -> None:
    known = {name.upper() for kind in SETTINGS for name in kind.model_fields} | {"ENVIRONMENT"}
    listed = {name for name in table_rows("README.md") if name.isupper()}
    assert listed <= known


def test_metrics_page_lists_exactly_the_metrics() -> None:
    declared = set()
    for family in REGISTRY.collect():
        declared.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert set(table_rows("docs/metrics.md")) == declared


def test_every_test_that_the_documents_name_is_there() -> None:
    for document in ("docs/proofs.md", "docs/reliability.md"):
        named = set(re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)`", (ROOT / document).read_text()))
        assert named
        found = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
        missing = {name for name in named if not ((ROOT / name).is_file() or ("/" not in name and name in found))}
        assert not missing, f"{document} names tests that are not there"
