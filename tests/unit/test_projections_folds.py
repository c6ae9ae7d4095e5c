"""The folds, without a server: given events, these changes."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from contracts.event import UserEvent
from contracts.versions import encode_event
from projector.projections import PROJECTIONS
from projector.projections.activity_hourly import ACTIVITY_HOURLY, TYPE_BITS
from projector.projections.event_batch import SEPARATOR, event_batch_of
from projector.projections.meanings import product_of
from projector.projections.product_views import PRODUCT_VIEWS
from projector.projections.projection import arguments, statement
from projector.projections.user_activity import USER_ACTIVITY
from projector.projections.user_sessions import KEPT_PRODUCTS, USER_SESSIONS
from projector.writing.rows import EventRow
from tests.shipped_types import MEANINGS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def row(
    number: int, kind: str, product: object = None, user: str = "anna", minute: float = 0, partition: int = 0
) -> EventRow:
    payload: dict[str, Any] = {} if product is None else {"productId": product}
    event = UserEvent(UUID(int=number), user, kind, NOON + timedelta(minutes=minute), payload)
    return EventRow(event, "t", partition, number, 0, encode_event(event), b"{}")


def test_activity_counts_and_keeps_the_last_of_each_kind_in_the_log() -> None:
    rows = [
        row(1, "LOGIN", minute=5),
        row(2, "PRODUCT_VIEW", "p-1", minute=6),
        row(3, "LOGIN", minute=2),  # an earlier time later in the log
        row(4, "PRODUCT_VIEW", minute=7),
        row(5, "LOGOUT", minute=4),
    ]
    changes, others = USER_ACTIVITY.fold(event_batch_of(rows, MEANINGS))
    at = [NOON + timedelta(minutes=minute) for minute in range(8)]
    assert changes == [("default", "anna", 0, at[2], at[7], 2, 1, 2, at[2], False, at[4], "p-1", at[6])]
    assert others == []


def test_a_second_login_ends_the_first_session_and_a_logout_without_one_means_nothing() -> None:
    rows = [
        row(1, "LOGOUT"),
        row(2, "PRODUCT_VIEW", "p-0"),
        row(3, "LOGIN", minute=1),
        row(4, "PRODUCT_VIEW", "p-2"),
        row(5, "PRODUCT_VIEW", "p-1"),
        row(6, "PRODUCT_VIEW", "p-2"),
        row(7, "LOGIN", minute=2),
        row(8, "PRODUCT_VIEW"),
    ]
    changes, ended = USER_SESSIONS.fold(event_batch_of(rows, MEANINGS))
    minute = timedelta(minutes=1)
    key = ("default", "anna", 0)
    assert changes == [(*key, 0, "", NOON, "LOGOUT", UUID(int=7), NOON + 2 * minute, 1, "")]
    first = (UUID(int=3), NOON + minute, NOON + 2 * minute, "LOGIN", 3, f"p-2{SEPARATOR}p-1")
    assert ended == [(*key, *first)]


def test_what_precedes_the_first_login_of_a_batch_belongs_to_the_stored_session() -> None:
    rows = [row(1, "PRODUCT_VIEW", "p-1"), row(2, "PRODUCT_VIEW", "p-1"), row(3, "LOGOUT", minute=3)]
    changes, ended = USER_SESSIONS.fold(event_batch_of(rows, MEANINGS))
    lead = (2, "p-1", NOON + timedelta(minutes=3), "LOGOUT")
    assert changes == [("default", "anna", 0, *lead, None, None, 0, "")]
    assert ended == []


def test_a_batch_sends_no_more_products_than_a_session_keeps() -> None:
    rows = [row(n, "PRODUCT_VIEW", f"p-{n}") for n in range(1000)]
    changes, _ = USER_SESSIONS.fold(event_batch_of(rows, MEANINGS))
    assert str(changes[0][4]).split(SEPARATOR) == [f"p-{n}" for n in range(KEPT_PRODUCTS)]


def test_views_count_by_hour_and_remember_who_saw_what() -> None:
    rows = [
        row(1, "PRODUCT_VIEW", "p-2", minute=59),
        row(2, "PRODUCT_VIEW", "p-1", minute=60),
        row(3, "PRODUCT_VIEW", "p-1", minute=0),
        row(4, "PRODUCT_VIEW", "p-2", minute=1, user="bert", partition=1),
        row(5, "PRODUCT_VIEW", minute=1),
        row(6, "LOGIN", "p-9"),
    ]
    viewed, seen = PRODUCT_VIEWS.fold(event_batch_of(rows, MEANINGS))
    one = NOON + timedelta(hours=1)
    assert viewed == [
        ("default", NOON, "p-1", 0, 1),
        ("default", NOON, "p-2", 0, 1),
        ("default", NOON, "p-2", 1, 1),
        ("default", one, "p-1", 0, 1),
    ]
    assert seen == [
        ("default", NOON, "anna", 0, f"p-2{SEPARATOR}p-1"),
        ("default", NOON, "bert", 1, "p-2"),
        ("default", one, "anna", 0, "p-1"),
    ]


def test_hourly_activity_counts_types_and_remembers_who_had_which() -> None:
    rows = [row(1, "LOGIN"), row(2, "LOGIN"), row(3, "LOGOUT"), row(4, "LOGIN", user="bert")]
    events, seen, others = ACTIVITY_HOURLY.fold(event_batch_of(rows, MEANINGS))
    assert events == [("default", NOON, "LOGIN", 0, 3), ("default", NOON, "LOGOUT", 0, 1)]
    assert seen == [("default", NOON, "anna", 0, 3), ("default", NOON, "bert", 0, 1)]
    assert others == []


def test_type_bits_are_never_given_twice() -> None:
    assert TYPE_BITS == {"LOGIN": 1, "LOGOUT": 2, "PRODUCT_VIEW": 4}  # stored: append only


@pytest.mark.parametrize("product", ["p", "p-1", "x" * 256, "größe 42", "日本", "a\u2028b"])
def test_a_product_is_a_short_text(product: str) -> None:
    assert product_of(row(1, "PRODUCT_VIEW", product).event, "productId") == product


@pytest.mark.parametrize(
    "product", ["", "x" * 257, "a\x1fb", "a\nb", "a\x7fb", "é\x85", 7, 1.5, True, ["p"], {"id": "p"}]
)
def test_anything_else_is_no_product(product: object) -> None:
    assert product_of(row(1, "PRODUCT_VIEW", product).event, "productId") is None


def test_changes_are_sorted_by_key_and_no_key_comes_twice() -> None:
    chance = random.Random(7)
    kinds: list[str] = ["LOGIN", "LOGOUT", "PRODUCT_VIEW"]
    rows = [
        row(n, chance.choice(kinds), f"p-{n % 13}", f"u-{chance.randrange(40)}", chance.randrange(300), n % 3)
        for n in range(2000)
    ]
    events = event_batch_of(rows, MEANINGS)
    for projection in PROJECTIONS:
        for table, changes in zip(projection.changes, projection.fold(events), strict=True):
            width = 4 if table.name == "user_sessions_ended" or "hour" in table.columns else 3
            keys = [change[:width] for change in changes]
            assert keys == sorted(set(keys)), table.name
            assert {len(change) for change in changes} <= {len(table.columns)}, table.name


def test_names_of_steps_and_changes_are_unique_and_lead_with_the_projection() -> None:
    names = [(p.name, n) for p in PROJECTIONS for n in [c.name for c in p.changes] + [name for name, _ in p.steps]]
    assert len({name for _, name in names}) == len(names)
    assert all(name.startswith(projection) for projection, name in names)


def test_every_key_begins_with_the_tenant_and_holds_the_partition() -> None:
    for projection in PROJECTIONS:
        for table in projection.changes:
            assert next(iter(table.columns)) == "tenant_id"
            assert "kafka_partition" in table.columns


def test_a_statement_takes_as_many_parameters_as_there_are_columns() -> None:
    nothing = arguments(PROJECTIONS, event_batch_of([], MEANINGS))
    assert len(nothing) == sum(len(table.columns) for p in PROJECTIONS for table in p.changes)
    assert f"${len(nothing)}::" in statement(PROJECTIONS)
    assert f"${len(nothing) + 1}::" not in statement(PROJECTIONS)
