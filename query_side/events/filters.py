"""Which events are asked for, and which page of them."""

import re
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

import msgspec

from query_side.api.parameters import Parameters
from query_side.events.formats import CSV_CELLS, FORMATS

ORDERS = ("asc", "desc")
MAX_LIMIT = 1_000  # events of a page
DEFAULT_LIMIT = 100

SINGLE = ("userId", "productId", "from", "to", "order", "limit", "cursor", "format", "csv")
REPEATABLE = ("eventType",)

_needs_no_escape = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch
_encode = msgspec.json.Encoder().encode


class EventFilter(msgspec.Struct, frozen=True):
    """The events asked for and their order. `since` is inclusive, `until` exclusive; both in UTC."""

    user_id: str | None = None
    product_id: str | None = None
    event_types: tuple[str, ...] = ()  # none: every type
    since: datetime | None = None
    until: datetime | None = None
    descending: bool = False

    def fingerprint(self) -> bytes:
        """The same bytes for the same filter, and only for it."""
        return b"events:" + _encode(self)


class PageRequest(msgspec.Struct, frozen=True):
    """A filter, and what part of it. Neither limit nor cursor: whatever the format makes of it."""

    filter: EventFilter
    limit: int | None
    cursor: str | None
    format: str | None = None  # of `FORMATS`; None: as `Accept` prefers
    csv: str = "safe"


def page_request(query_string: bytes, event_types: Sequence[str], user_id: str | None = None) -> PageRequest:
    """What a query string asks for. `event_types`: those that may be named. `user_id`: of this
    user, and then the string may not name one.

    Raises RefusedError, 400, with a sentence for each problem.
    """
    parameters = Parameters(query_string, SINGLE if user_id is None else SINGLE[1:], REPEATABLE)
    since, until = parameters.span()
    found = PageRequest(
        EventFilter(
            user_id=parameters.text("userId") if user_id is None else user_id,
            product_id=parameters.text("productId"),
            event_types=parameters.choices("eventType", event_types),
            since=since,
            until=until,
            descending=parameters.choice("order", ORDERS, "asc") == "desc",
        ),
        parameters.number("limit", MAX_LIMIT),
        parameters.raw("cursor"),
        parameters.choice("format", FORMATS, "") or None,
        parameters.choice("csv", CSV_CELLS, "safe"),
    )
    parameters.check()
    return found


def next_link(path: str, request: PageRequest, cursor: str, limit: int) -> bytes:
    """The `Link` header (RFC 8288) to the page at `cursor`: the same request otherwise. `path`: percent-encoded."""
    wanted = request.filter
    fields = [f"eventType={kind}" for kind in wanted.event_types]
    if wanted.user_id is not None and not path.startswith("/users/"):
        fields.append(f"userId={_escaped(wanted.user_id)}")
    if wanted.product_id is not None:
        fields.append(f"productId={_escaped(wanted.product_id)}")
    if wanted.since is not None:
        fields.append(f"from={_escaped(wanted.since.isoformat())}")
    if wanted.until is not None:
        fields.append(f"to={_escaped(wanted.until.isoformat())}")
    if wanted.descending:
        fields.append("order=desc")
    if request.format is not None:
        fields.append(f"format={request.format}")
    if request.csv != "safe":
        fields.append(f"csv={request.csv}")
    return f'<{path}?{"&".join([*fields, f"limit={limit}", f"cursor={cursor}"])}>; rel="next"'.encode()


def _escaped(text: str) -> str:
    """`quote`, which takes 3 us, where there is anything to quote."""
    return text if _needs_no_escape(text) else quote(text, safe="")
