"""Folds work on what a type means: types of a catalogue of one's own, and types that no catalogue declares."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from contracts.event import UserEvent
from contracts.types import read_catalogue
from contracts.versions import encode_event
from projector.projections.activity_hourly import ACTIVITY_HOURLY
from projector.projections.event_batch import event_batch_of
from projector.projections.meanings import Meanings
from projector.projections.product_views import PRODUCT_VIEWS
from projector.projections.user_activity import USER_ACTIVITY
from projector.projections.user_sessions import USER_SESSIONS
from projector.writing.rows import EventRow
from tests.shipped_types import SHIPPED

OWN = """
[SIGN_IN]
description = "A user signs in."
means = "opens_session"

[SIGN_OUT]
description = "A user signs out."
means = "closes_session"

[CART]
description = "A user puts a product into the cart."
means = "views_product"
product = "sku"

[PURCHASE]
description = "A user buys a product."
"""
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = ("default", "anna", 0)


@pytest.fixture
def own(tmp_path: Path) -> Meanings:
    file = tmp_path / "event_types.toml"
    file.write_text(OWN)
    return Meanings(read_catalogue(file))


def row(number: int, kind: str, **payload: str) -> EventRow:
    event = UserEvent(UUID(int=number), "anna", kind, NOON + timedelta(minutes=number), payload)
    return EventRow(event, "t", 0, number, 0, encode_event(event), b"{}")


VISIT = [
    row(1, "SIGN_IN"),
    row(2, "CART", sku="p-1", productId="p-9"),
    row(3, "PURCHASE", sku="p-1"),
    row(4, "GONE"),
    row(5, "SIGN_OUT"),
]


def test_a_session_is_opened_closed_and_filled_by_meaning(own: Meanings) -> None:
    changes, ended = USER_SESSIONS.fold(event_batch_of(VISIT, own))
    at = [NOON + timedelta(minutes=n) for n in range(6)]
    assert ended == [(*KEY, UUID(int=1), at[1], at[5], "SIGN_OUT", 1, "p-1")]
    assert changes == [(*KEY, 0, "", at[1], "SIGN_IN", None, None, 0, "")]


def test_columns_count_meanings_and_rows_count_names(own: Meanings) -> None:
    (change,), others = USER_ACTIVITY.fold(event_batch_of(VISIT, own))
    assert change[5:8] == (1, 1, 1)
    assert change[11] == "p-1"
    assert others == [
        (*KEY, "CART", "views_product", 1),
        (*KEY, "GONE", "nothing", 1),
        (*KEY, "PURCHASE", "nothing", 1),
        (*KEY, "SIGN_IN", "opens_session", 1),
        (*KEY, "SIGN_OUT", "closes_session", 1),
    ]


def test_views_and_hours_know_every_type(own: Meanings) -> None:
    batch = event_batch_of(VISIT, own)
    viewed, _ = PRODUCT_VIEWS.fold(batch)
    assert viewed == [("default", NOON, "p-1", 0, 1)]
    events, seen, others = ACTIVITY_HOURLY.fold(batch)
    assert {key[2]: key[4] for key in events} == dict.fromkeys(("SIGN_IN", "CART", "PURCHASE", "GONE", "SIGN_OUT"), 1)
    assert seen == [("default", NOON, "anna", 0, 0)]
    assert [other[2] for other in others] == ["CART", "GONE", "PURCHASE", "SIGN_IN", "SIGN_OUT"]


def test_a_type_that_no_catalogue_declares_means_nothing_and_spoils_nothing() -> None:
    shipped = Meanings(SHIPPED)
    rows = [row(1, "LOGIN"), row(2, "GONE"), row(3, "PRODUCT_VIEW", productId="p-1")]
    batch = event_batch_of(rows, shipped)
    (change,), others = USER_ACTIVITY.fold(batch)
    assert change[5:8] == (1, 0, 1)
    assert others == [(*KEY, "GONE", "nothing", 1)]
    changes, _ = USER_SESSIONS.fold(batch)
    assert changes[0][7] == UUID(int=1)
    assert shipped.stored([each.event for each in rows]) is None


def test_a_row_says_what_its_types_name_does_not(own: Meanings) -> None:
    rows = [*VISIT, row(6, "LOGIN"), row(7, "PRODUCT_VIEW", productId="p-9")]
    assert own.stored([each.event for each in rows]) == [
        ("opens_session", ""),
        ("views_product", "p-1"),
        ("", ""),
        ("", ""),
        ("closes_session", ""),
        ("nothing", ""),
        ("nothing", ""),
    ]
