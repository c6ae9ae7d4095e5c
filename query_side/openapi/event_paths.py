"""The paths of events."""

from query_side.events.formats import CSV_CELLS, FORMATS
from query_side.openapi.shapes import (
    CURSOR_PARAMETER,
    EVENT_ID_IN_PATH,
    EVENT_TYPE,
    EXAMPLE_EVENT,
    FROM,
    ORDER,
    PRODUCT_ID,
    TO,
    USER_ID,
    USER_ID_IN_PATH,
    Json,
    answered,
    events_answered,
    limit,
    parameter,
    reference,
    refused,
    responses,
)

TAG = {"ETag": {"description": "Of this event; it never changes.", "schema": {"type": "string"}}}
IN_FORMATS = (
    "JSON, NDJSON, CSV (no cell can be taken for a formula), an Arrow stream or a Parquet file, as `format` says or "
    "`Accept` prefers; compressed with gzip where `Accept-Encoding` takes it and it pays."
)

CHOOSING = (EVENT_TYPE, PRODUCT_ID, FROM, TO, ORDER, limit(), CURSOR_PARAMETER)
FORMATTING = (
    parameter("format", "The format, whatever `Accept` says: for what can only name a URL.", {"enum": list(FORMATS)}),
    parameter(
        "csv",
        "Of CSV: `safe` has `'` before each user id that begins with it or as a formula does; `raw` has none.",
        {"enum": list(CSV_CELLS), "default": "safe"},
    ),
)

EVENT_PATHS: Json = {
    "/events/processed": {
        "get": {
            "operationId": "getProcessedEvents",
            "summary": "Events, all or in pages",
            "description": (
                "Without parameters: all events, oldest first, from one snapshot. With parameters: a page of those "
                "that they choose, 100 unless `limit` says otherwise; the next one is in `Link`. In a format other "
                f"than JSON, all that is chosen comes at once unless there is `limit` or `cursor`.\n\n{IN_FORMATS}"
            ),
            "tags": ["events"],
            "parameters": [USER_ID, *CHOOSING, *FORMATTING],
            "responses": responses(events_answered("The events.")),
        }
    },
    "/events/{eventId}": {
        "get": {
            "operationId": "getEvent",
            "summary": "One event",
            "description": "With `If-None-Match`, 304 to a client that has it already.",
            "tags": ["events"],
            "parameters": [
                EVENT_ID_IN_PATH,
                {
                    "name": "If-None-Match",
                    "in": "header",
                    "description": "Tags that the client has.",
                    "schema": {"type": "string"},
                    "example": '"5f0c2d8e9a71b64c3d2e1f00"',
                },
            ],
            "responses": responses(
                answered("The event.", reference("Event"), EXAMPLE_EVENT, TAG),
                negotiated=False,
                s304={"description": "The client has it.", "headers": TAG},
                s400=refused("The id is no UUID.", "The event id in the path must be a UUID."),
                s404=refused(
                    "There is no such event, or not yet.",
                    "No such event in the read model (it may not be projected yet).",
                ),
            ),
        }
    },
    "/users/{id}/events": {
        "get": {
            "operationId": "getEventsOfUser",
            "summary": "Events of one user",
            "description": f"In pages, as `/events/processed`; empty for a user without events.\n\n{IN_FORMATS}",
            "tags": ["users"],
            "parameters": [USER_ID_IN_PATH, *CHOOSING, *FORMATTING],
            "responses": responses(events_answered("The user's events.")),
        }
    },
}
