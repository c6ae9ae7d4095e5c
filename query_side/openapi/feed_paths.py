"""The paths that follow the log: the feed, its stream, the life of an event; and what waits for positions: all."""

import msgspec

from query_side.feed.stream import LAST_ID
from query_side.log_positions.served_history import GONE
from query_side.openapi.shapes import (
    EVENT_ID_IN_PATH,
    EVENT_TYPE,
    EXAMPLE_CURSOR,
    EXAMPLE_EVENT,
    EXAMPLE_ID,
    LINK,
    PRODUCT_ID,
    USER_ID,
    Json,
    answered,
    limit,
    listed,
    parameter,
    reference,
    refused,
    responses,
)

SINCE = parameter(
    "since",
    "Where to begin: `beginning`, `now`, a cursor, or a time with an offset or a date.",
    {"type": "string", "minLength": 1},
    example="beginning",
)
CURSOR_HEADER: Json = {
    "Footfall-Cursor": {
        "description": "Where to go on, now or later, as `since`.",
        "schema": {"type": "string"},
        "example": EXAMPLE_CURSOR,
    }
}
OF_ANOTHER_HISTORY = refused(
    "The cursor belongs to another history of the log, which was replaced since: begin again.", GONE
)
STREAMED = f"id: {EXAMPLE_CURSOR}\nevent: PRODUCT_VIEW\ndata: {msgspec.json.encode(EXAMPLE_EVENT).decode()}\n\n"

FEED_PATHS: Json = {
    "/events/feed": {
        "get": {
            "operationId": "getFeed",
            "summary": "Everything since, in the order of the log",
            "description": (
                "Pages without gap or repetition, whatever is written. `Footfall-Cursor` says where to go on, "
                "`Link` is there while there is more at once."
            ),
            "tags": ["feed"],
            "parameters": [SINCE, limit()],
            "responses": responses(
                answered("Events.", listed("Event"), [EXAMPLE_EVENT], {**CURSOR_HEADER, **LINK}),
                negotiated=False,
                s410=OF_ANOTHER_HISTORY,
            ),
        }
    },
    "/events/stream": {
        "get": {
            "operationId": "getStream",
            "summary": "What comes, live, as Server-Sent Events",
            "description": (
                "Each event has a cursor as its id; `Last-Event-ID` goes on after it, without gap or repetition. "
                "The first event, `begin`, says where the stream begins; heartbeats are comments. A stream never ends "
                "by itself, but for `event: end`, which says why."
            ),
            "tags": ["feed"],
            "parameters": [
                SINCE,
                USER_ID,
                EVENT_TYPE,
                PRODUCT_ID,
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "description": "The id of the last event that was taken.",
                    "schema": {"type": "string"},
                },
                parameter(LAST_ID, "As `Last-Event-ID`, for clients that cannot set it.", {"type": "string"}),
            ],
            "responses": responses(
                {
                    "description": "Events as they come.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAMED}},
                },
                negotiated=False,
                s410=OF_ANOTHER_HISTORY,
            ),
        }
    },
    "/events/{eventId}/status": {
        "get": {
            "operationId": "getEventStatus",
            "summary": "The life of one event",
            "description": "With `position`, of the record there; waits for it as long as `Prefer: wait` says.",
            "tags": ["events"],
            "parameters": [EVENT_ID_IN_PATH],
            "responses": responses(
                answered(
                    "What became of it.",
                    reference("Status"),
                    {
                        "eventId": EXAMPLE_ID,
                        "status": "projected",
                        "position": "3-1207",
                        "occurredAt": "2026-01-31T12:00:00.123456Z",
                        "recordedAt": "2026-01-31T12:00:00.125000Z",
                        "projectedAt": "2026-01-31T12:00:00.131000Z",
                    },
                ),
                negotiated=False,
                s400=refused("The id is no UUID.", "The event id in the path must be a UUID."),
            ),
        }
    },
}

POSITION = parameter(
    "position",
    "Answer once the read model has passed these positions: `<partition>-<offset>`, with commas between. The header "
    "`Footfall-Position` means the same.",
    {"type": "string", "pattern": r"^[0-9]{1,6}-[0-9]{1,18}(,[0-9]{1,6}-[0-9]{1,18}){0,63}$"},
    example="0-0",
)
PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=<seconds>`, a fraction, too: how long to wait for `position`; at most 30, 5 without it.",
    "schema": {"type": "string"},
    "example": "wait=0",
}
SET_ASIDE = refused(
    "The record at a position that was asked for is parked, or was discarded: waiting is no use.",
    "The event at position 3-1207 is parked (poison): Field `userId` is required.",
)


def waiting(paths: Json) -> Json:
    """The same paths, each of which may be asked to wait for positions; a status tells what is so, and refuses none."""
    found = {}
    for path, operations in paths.items():
        get = operations["get"]
        answers = get["responses"] if path.endswith("/status") else get["responses"] | {"409": SET_ASIDE}
        parameters = [*get["parameters"], POSITION, PREFER]
        found[path] = {"get": get | {"parameters": parameters, "responses": dict(sorted(answers.items()))}}
    return found
