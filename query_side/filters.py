"""Which events are asked for, and which page of them."""

from datetime import datetime
from urllib.parse import urlencode

import msgspec

from query_side.parameters import Parameters

EVENT_TYPES = ("LOGIN", "LOGOUT", "PRODUCT_VIEW")
ORDERS = ("asc", "desc")
MAX_LIMIT = 1_000  # events of a page
DEFAULT_LIMIT = 100

SINGLE = ("userId", "productId", "from", "to", "order", "limit", "cursor")
REPEATABLE = ("eventType",)

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


def page_request(query_string: bytes, user_id: str | None = None) -> PageRequest:
    """What a query string asks for; `user_id`: of this user, and then the string may not name one.

    Raises RefusedError, 400, with a sentence for each problem.
    """
    parameters = Parameters(query_string, SINGLE if user_id is None else SINGLE[1:], REPEATABLE)
    since, until = parameters.span()
    found = PageRequest(
        EventFilter(
            user_id=parameters.text("userId") if user_id is None else user_id,
            product_id=parameters.text("productId"),
            event_types=parameters.choices("eventType", EVENT_TYPES),
            since=since,
            until=until,
            descending=parameters.choice("order", ORDERS, "asc") == "desc",
        ),
        parameters.number("limit", MAX_LIMIT),
        parameters.raw("cursor"),
    )
    parameters.check()
    return found


def next_link(path: str, request: PageRequest, cursor: str, limit: int) -> bytes:
    """The `Link` header (RFC 8288) to the page at `cursor`: the same request otherwise. `path`: percent-encoded."""
    wanted = request.filter
    fields = [
        ("userId", None if path.startswith("/users/") else wanted.user_id),
        ("productId", wanted.product_id),
        *(("eventType", kind) for kind in wanted.event_types),
        ("from", wanted.since and wanted.since.isoformat()),
        ("to", wanted.until and wanted.until.isoformat()),
        ("order", "desc" if wanted.descending else None),
        ("limit", limit),
        ("cursor", cursor),
    ]
    query = urlencode([(name, value) for name, value in fields if value is not None])
    return f'<{path}?{query}>; rel="next"'.encode()
