"""Every statement of the query side over rows of tenants has the tenant as its first parameter (docs/decisions/0037).

What counts as a statement: a text, or a part of one that is put together, that reads `read.<table>` of rows with a
tenant, anywhere in the source. So a statement that is built within a function is found like a constant of a module.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from query_side.events import pages
from query_side.events.filters import EventFilter
from read_model.names import READ
from read_model.tables import dead_letters, projections
from read_model.tables.processed_events import metadata
from tests.architecture.repository import ROOT

DECLARED = (dead_letters, projections)  # in `metadata`

TABLES = {table.name for table in metadata.tables.values() if "tenant_id" in table.columns} | {"dead_letters"}
VIEWS = {"user_activity", "user_sessions", "product_views", "activity_hourly"}  # which add up those tables' rows
reads_rows = re.compile(rf"\b{READ}\.({'|'.join(sorted(TABLES | VIEWS))})\b").findall
OF_A_TENANT = re.compile(r"(?<!\w)(?:\w+\.)?tenant_id = (?:\$1(?!\d)|ANY\(\$1::text\[\]\))").findall

# Statements that say nothing of a row.
LOG = "says at which offset of the log a time is"
EXCEPTIONS = {
    ("query_side/feed/start_position.py", "PROBE"): LOG,
    ("query_side/feed/start_position.py", "FIRST"): LOG,
    ("query_side/events/queries.py", "CLEAR"): "empties the tables of a test; the query side's role may not",
}
# Texts that a function puts together with their conditions; `test_built_statements` looks at the outcome.
BUILT = {
    ("query_side/events/pages.py", "_sql_of_two_ranges"),
    ("query_side/events/pages.py", "_sql"),
    ("query_side/feed/pages.py", "_LATE"),
    ("query_side/feed/pages.py", "_PAGE"),
}


def texts_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each text of a module, with the name of the constant or function that it stands in."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        else:
            name = getattr(statement, "name", "")
        within = {id(part) for node in ast.walk(statement) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(statement):
            if isinstance(node, ast.JoinedStr):
                yield name, "".join(map(_text, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
                yield name, node.value


def _text(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return READ if isinstance(part.value, ast.Name) and part.value.id == "READ" else "?"


def leaks(text: str) -> bool:
    """Whether a statement reads rows of tenants without saying of which tenant, each time that it reads any."""
    return len(OF_A_TENANT(text)) < len(reads_rows(text))


def statements() -> Iterator[tuple[str, str, str]]:
    for path in sorted((ROOT / "query_side").rglob("*.py")):
        where = str(path.relative_to(ROOT))
        for name, text in texts_of(ast.parse(path.read_text())):
            if reads_rows(text):
                yield where, name, text


def test_every_statement_names_the_tenant_first() -> None:
    found = list(statements())
    assert len(found) > 12
    forgotten = [
        f"{where}: {name}"
        for where, name, text in found
        if (where, name) not in EXCEPTIONS and (where, name) not in BUILT and leaks(text)
    ]
    assert not forgotten, "statements over rows of tenants without `tenant_id = $1`:\n" + "\n".join(forgotten)
    known = {(where, name) for where, name, _ in found}
    assert known >= EXCEPTIONS.keys() | BUILT, "an exception that no statement needs any more"


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("form", ["all", "bounded", "end"])
def test_built_statements_name_the_tenant_first(form: pages.Form, declared: bool) -> None:
    for user in (None, "u"):
        for product in (None, "p"):
            for types in ((), ("LOGIN",)):
                wanted = EventFilter(user_id=user, product_id=product, event_types=types)
                if form == "bounded" and not types and not (user and product):
                    continue
                text = pages.sql(wanted, form, declared=declared)
                assert reads_rows(text)
                assert not leaks(text), text
                assert pages.arguments("acme", wanted, None, 1)[0] == "acme"


def test_the_feeds_statements_tell_only_rows_of_the_tenants_in_the_first_parameter() -> None:
    from query_side.feed.pages import PAGE, PAGE_OF_TENANT  # noqa: PLC0415

    told = re.compile(r"FROM merged").split(PAGE)[0].rpartition("UNION ALL")[2]
    columns = ("event_json", "tenant_id")  # without an event, an entry is only passed over
    assert all(f"CASE WHEN mine THEN {column} END" in told for column in columns)
    assert PAGE.count("e.tenant_id = ANY($1::text[]) AS mine") == len(reads_rows(PAGE)) == 2
    assert not leaks(PAGE_OF_TENANT)
    assert PAGE_OF_TENANT.count("AND e.tenant_id = $1 AND e.tenant_id <> 'default'") == 3
    assert PAGE_OF_TENANT.count("AND l.tenant_id = $1") == PAGE_OF_TENANT.count("AND l.tenant_id IS NULL") == 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT event_json FROM read.processed_events WHERE event_id = $1",
        "SELECT event_json FROM read.processed_events WHERE tenant_id = 'default' AND event_id = $1",
        "SELECT event_json FROM read.processed_events WHERE event_id = $1 AND tenant_id = $2",
        "SELECT event_json FROM read.processed_events WHERE tenant_id = $10",
        "SELECT 1 FROM read.user_activity JOIN read.user_sessions USING (user_id) WHERE tenant_id = $1",
        "SELECT error_message FROM read.dead_letters WHERE kafka_topic = $1",
    ],
)
def test_a_statement_that_forgets_the_tenant_is_found(text: str) -> None:
    [(_, found)] = texts_of(ast.parse(f"Q = {text!r}"))
    assert leaks(found)
