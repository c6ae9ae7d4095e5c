"""docs/limits.md names every bound on what comes from outside, as the code has it."""

import re

import pytest

from command_side import batch_items as batch
from command_side.settings import CommandSettings
from contracts.event import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, MAX_USER_ID_LENGTH
from query_side.activity import routes as users
from query_side.api import negotiation, parameters
from query_side.events import filters
from query_side.feed import broadcaster as tail
from query_side.feed import routes as feed_routes
from query_side.log_positions import bounded_waits, cursors, positions
from query_side.settings import QuerySettings
from tests.architecture.repository import ROOT
from web import server as serve
from web.protocol import bounded_http, request_framing

LIMITS = (ROOT / "docs" / "limits.md").read_text()
BOUNDS = re.compile(r"more are answered|Largest request|Time limit|Time for which|forgotten|must read").search


def in_words(name: str, value: int) -> str:
    """As people write it: bytes in KiB, milliseconds in seconds."""
    if "BYTES" in name:
        return f"{value // 1_048_576} MiB" if value % 1_048_576 == 0 else f"{value // 1_024} KiB"
    if name.endswith("_MS"):
        return f"{value // 60_000} min" if value % 60_000 == 0 else f"{value // 1_000} s"
    return f"{value:,}"


def bounding_settings() -> dict[str, int]:
    return {
        name.upper(): field.default
        for settings in (CommandSettings, QuerySettings)
        for name, field in settings.model_fields.items()
        if BOUNDS(field.description or "")
    }


def test_every_setting_that_bounds_is_there_with_its_default() -> None:
    found = bounding_settings()
    assert len(found) >= 11
    missing = [name for name, value in found.items() if f"`{name}` ({in_words(name, value)})" not in LIMITS]
    assert missing == []


def test_a_page_has_as_many_of_either() -> None:
    assert filters.MAX_LIMIT == feed_routes.MAX_LIMIT == users.MAX_PRODUCTS


@pytest.mark.parametrize(
    "words",
    [
        f"{in_words('BYTES', bounded_http.MAX_HEAD_BYTES)}, {bounded_http.MAX_HEADERS} fields with trailers | 431",
        f"{in_words('BYTES', bounded_http.MAX_TARGET_BYTES)} | 414",
        f"{request_framing.MOST_WAITING} that wait for their turn |",
        f"| {bounded_http.HEAD_TIMEOUT:g} s | 408",
        f"| {bounded_http.LINGER:g} s | closed",
        f"| {serve.KEEP_ALIVE} s | closed",
        f"| items of a batch | {batch.MAX_ITEMS:,} | 400",
        f"| `userId` | 1 to {MAX_USER_ID_LENGTH} characters",
        f"{in_words('BYTES', MAX_PAYLOAD_BYTES)} as encoded, {MAX_PAYLOAD_DEPTH} levels | 400",
        f"| parameters | {parameters.MAX_FIELDS}, known",
        f"each once (`eventType`: {parameters.MAX_REPEATS} times) | 400",
        f"| 1 to {parameters.MAX_TEXT_LENGTH} characters without",
        f"| {filters.MAX_LIMIT:,} events or products, {users.MAX_SESSIONS} sessions | 400",
        f"{users.MAX_RANKING.days} days of `/products/top`, {users.MAX_ACTIVITY.days} of `/activity/hourly` | 400",
        f"{cursors.MAX_CURSOR_LENGTH:,} characters that were sealed here | 400",
        f"{positions.MAX_POSITIONS}, for at most {positions.MAX_WAIT:g} s",
        f"| requests that wait for positions | {bounded_waits.MAX_WAITING:,} | 503",
        f"| list elements of `Accept` and `Accept-Encoding` | {negotiation.MAX_ELEMENTS} |",
        f"{in_words('BYTES', tail.MAX_QUEUED_BYTES)} or {tail.MAX_QUEUED:,} pieces | closed",
    ],
)
def test_every_constant_that_bounds_is_there(words: str) -> None:
    assert words in LIMITS
