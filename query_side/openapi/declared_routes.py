"""The hot routes as Litestar would have them: signatures that the OpenAPI document is generated from.

Plain ASGI answers these paths (`web/hot_routes.py` says why), so nothing here is ever called.
"""

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter

from query_side.api.declared import (
    EXAMPLE_CURSOR,
    EXAMPLE_ID,
    Cursor,
    EventId,
    From,
    OfProduct,
    OfTypes,
    OfUser,
    To,
    UserId,
    at_most,
    example,
)
from query_side.api.described import LINK, NEGOTIATED, OF_EVERY_READ, refused
from query_side.api.negotiation import ARROW, CSV, NDJSON, PARQUET
from query_side.events.filters import DEFAULT_LIMIT, MAX_LIMIT, ORDERS
from query_side.events.formats import CSV_CELLS, FORMATS
from query_side.feed.stream import LAST_ID
from query_side.log_positions.served_history import GONE
from query_side.openapi.shapes import EXAMPLE_EVENT, Event
from web.openapi import DOCUMENTED

Json = dict[str, Any]

Limit = Annotated[int, at_most(MAX_LIMIT, DEFAULT_LIMIT)]
Order = Annotated[
    str,
    QueryParameter(
        name="order",
        description="Oldest or newest first.",
        schema_extra={"enum": list(ORDERS)},
        examples=example("desc"),
    ),
]
Format = Annotated[
    str | None,
    QueryParameter(
        name="format",
        description="The format, whatever `Accept` says: for what can only name a URL.",
        schema_extra={"enum": list(FORMATS)},
    ),
]
Cells = Annotated[
    str,
    QueryParameter(
        name="csv",
        description="Of CSV: `safe` has `'` before each user id that begins with it or as a formula does; `raw` has "
        "none.",
        schema_extra={"enum": list(CSV_CELLS)},
    ),
]
Since = Annotated[
    str | None,
    QueryParameter(
        name="since",
        description="Where to begin: `beginning`, `now`, a cursor, or a time with an offset or a date.",
        min_length=1,
        examples=example("beginning"),
    ),
]
TAG = ResponseHeader(name="ETag", documentation_only=True, description="Of this event; it never changes.")
CURSOR_HEADER = ResponseHeader(
    name="Footfall-Cursor",
    documentation_only=True,
    description="Where to go on, now or later, as `since`.",
    example=EXAMPLE_CURSOR,
)
IN_FORMATS = (
    "JSON, NDJSON, CSV (no cell can be taken for a formula), an Arrow stream or a Parquet file, as `format` says or "
    "`Accept` prefers; compressed with gzip where `Accept-Encoding` takes it and it pays."
)
LINE = msgspec.json.encode(EXAMPLE_EVENT).decode()
ROW = (
    "eventId,userId,eventType,timestamp,payload\r\n"
    f'{EXAMPLE_ID},user-123,LOGIN,2026-01-31T12:00:00.123456Z,"{{""n"":1}}"\r\n'
)
STREAMED = f"id: {EXAMPLE_CURSOR}\nevent: PRODUCT_VIEW\ndata: {LINE}\n\n"
TEXT: Json = {"schema": {"type": "string"}}
# Litestar describes one media type of an answer; these are the others.
FURTHER_FORMATS: Json = {
    NDJSON: {**TEXT, "example": f"{LINE}\n"},
    CSV: {**TEXT, "example": ROW},
    ARROW: TEXT,
    PARQUET: TEXT,
}
OF_ANOTHER_HISTORY = refused(
    "The cursor belongs to another history of the log, or events after it were deleted because of their age: "
    "begin again.",
    GONE,
)

get_events = partial(
    get,
    response_headers=[LINK],
    responses=NEGOTIATED,
    opt={DOCUMENTED: {"responses": {"200": {"content": FURTHER_FORMATS}}}},
)
get_log = partial(get, tags=["feed"], responses=OF_EVERY_READ | {410: OF_ANOTHER_HISTORY})


@get_events(
    "/events/processed",
    operation_id="getProcessedEvents",
    summary="Events, all or in pages",
    description="Without parameters: all events, oldest first, from one snapshot. With parameters: a page of those "
    "that they choose, 100 unless `limit` says otherwise; the next one is in `Link`. In a format other "
    f"than JSON, all that is chosen comes at once unless there is `limit` or `cursor`.\n\n{IN_FORMATS}",
    tags=["events"],
    response_description="The events.",
)
async def processed_events(  # noqa: PLR0913, PLR0917 - as many as there are
    user_id: OfUser = None,
    event_types: OfTypes = (),
    product_id: OfProduct = None,
    since: From = None,
    until: To = None,
    order: Order = "asc",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    form: Format = None,
    cells: Cells = "safe",
) -> list[Event]:
    raise NotImplementedError


@get_events(
    "/users/{id:str}/events",
    operation_id="getEventsOfUser",
    summary="Events of one user",
    description=f"In pages, as `/events/processed`; empty for a user without events.\n\n{IN_FORMATS}",
    tags=["users"],
    response_description="The user's events.",
)
async def events_of_user(  # noqa: PLR0913, PLR0917 - as many as there are
    user_id: UserId,
    event_types: OfTypes = (),
    product_id: OfProduct = None,
    since: From = None,
    until: To = None,
    order: Order = "asc",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    form: Format = None,
    cells: Cells = "safe",
) -> list[Event]:
    raise NotImplementedError


@get(
    "/events/{eventId:str}",
    operation_id="getEvent",
    summary="One event",
    description="With `If-None-Match`, 304 to a client that has it already.",
    tags=["events"],
    response_description="The event.",
    response_headers=[TAG],
    responses=OF_EVERY_READ
    | {
        304: ResponseSpec(None, description="The client has it."),
        400: refused("The id is no UUID.", "The event id in the path must be a UUID."),
        404: refused(
            "There is no such event, or not yet.",
            "No such event in the read model (it may not be projected yet).",
        ),
        410: refused(
            "The id was made at a time of which the read model keeps nothing.",
            "The read model keeps no event of that time. Events from before 2026-01-31T12:00:00Z may be deleted.",
        ),
    },
    opt={
        DOCUMENTED: {
            "responses": {"304": {"headers": {"ETag": {"description": TAG.description, "schema": {"type": "string"}}}}}
        }
    },
)
async def event(
    event_id: EventId,
    if_none_match: Annotated[
        str | None,
        HeaderParameter(
            name="If-None-Match",
            description="Tags that the client has.",
            examples=example('"5f0c2d8e9a71b64c3d2e1f00"'),
        ),
    ] = None,
) -> Event:
    raise NotImplementedError


@get_log(
    "/events/feed",
    operation_id="getFeed",
    summary="Everything since, in the order of the log",
    description="Pages without gap or repetition, whatever is written. `Footfall-Cursor` says where to go on, "
    "`Link` is there while there is more at once.",
    response_description="Events.",
    response_headers=[CURSOR_HEADER, LINK],
)
async def feed(since: Since = None, limit: Limit = DEFAULT_LIMIT) -> list[Event]:
    raise NotImplementedError


@get_log(
    "/events/stream",
    operation_id="getStream",
    summary="What comes, live, as Server-Sent Events",
    description="Each event has a cursor as its id; `Last-Event-ID` goes on after it, without gap or repetition. "
    "The first event, `begin`, says where the stream begins; heartbeats are comments. A stream never ends "
    "by itself, but for `event: end`, which says why.",
    response_description="Events as they come.",
    media_type="text/event-stream",
    opt={DOCUMENTED: {"responses": {"200": {"content": {"text/event-stream": {"example": STREAMED}}}}}},
)
async def stream(
    since: Since = None,
    user_id: OfUser = None,
    event_types: OfTypes = (),
    product_id: OfProduct = None,
    last: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="The id of the last event that was taken.")
    ] = None,
    last_in_query: Annotated[
        str | None, QueryParameter(name=LAST_ID, description="As `Last-Event-ID`, for clients that cannot set it.")
    ] = None,
) -> str:
    raise NotImplementedError


DECLARED = [processed_events, events_of_user, event, feed, stream]
