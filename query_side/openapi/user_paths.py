"""The paths of what the projections know."""

from query_side.activity.routes import DEFAULT_PRODUCTS, DEFAULT_SESSIONS, MAX_PRODUCTS, MAX_SESSIONS
from query_side.openapi.shapes import (
    CURSOR_PARAMETER,
    EVENT_TYPE,
    EXAMPLE_ID,
    FROM,
    LINK,
    TO,
    USER_ID,
    USER_ID_IN_PATH,
    Json,
    answered,
    limit,
    listed,
    reference,
    refused,
    responses,
)

SPAN = {"from": {"type": "string", "format": "date-time"}, "to": {"type": "string", "format": "date-time"}}


def spanned(name: str, items: str) -> Json:
    """An answer about full hours: which, and what happened in them."""
    return {
        "type": "object",
        "required": ["from", "to", name],
        "additionalProperties": False,
        "properties": {**SPAN, name: listed(items)},
    }


BY_QUERY = (
    "For ids that no path can carry: clients resolve `.` and `..`, and what stands before them may unescape `%2F`."
)
USER_PATHS: Json = {
    "/users/{id}/activity": {
        "get": {
            "operationId": "getUserActivity",
            "summary": "What one user did",
            "tags": ["users"],
            "parameters": [USER_ID_IN_PATH],
            "responses": responses(
                answered(
                    "Counts, and how the user stands.",
                    reference("UserActivity"),
                    {
                        "userId": "user-123",
                        "firstSeen": "2026-01-31T11:58:00Z",
                        "lastSeen": "2026-01-31T12:00:00.123456Z",
                        "logins": 1,
                        "logouts": 0,
                        "productViews": 3,
                        "lastLoginAt": "2026-01-31T11:58:00Z",
                        "loggedIn": True,
                        "lastProductId": "p-42",
                    },
                ),
                s404=refused(
                    "The user has no events, or not yet.",
                    "No events of this user are in the read model (they may not be projected yet).",
                ),
            ),
        }
    },
    "/users/{id}/sessions": {
        "get": {
            "operationId": "getUserSessions",
            "summary": "Sessions of one user, the newest first",
            "description": "From a LOGIN to the LOGOUT, or the next LOGIN, in the log. Empty for a user without any.",
            "tags": ["users"],
            "parameters": [USER_ID_IN_PATH, limit(MAX_SESSIONS, DEFAULT_SESSIONS), CURSOR_PARAMETER],
            "responses": responses(
                answered(
                    "The sessions.",
                    listed("UserSession"),
                    [
                        {
                            "sessionId": EXAMPLE_ID,
                            "startedAt": "2026-01-31T11:58:00Z",
                            "views": 3,
                            "products": ["p-7", "p-42"],
                            "moreProducts": False,
                            "endedAt": None,
                            "endedBy": None,
                            "seconds": None,
                        }
                    ],
                    LINK,
                )
            ),
        }
    },
    "/products/top": {
        "get": {
            "operationId": "getTopProducts",
            "summary": "The most viewed products",
            "description": (
                "Of full hours: `from` is rounded down, `to` up, and the answer tells both. By default the last 7 "
                "days; at most 366."
            ),
            "tags": ["products"],
            "parameters": [FROM, TO, limit(MAX_PRODUCTS, DEFAULT_PRODUCTS)],
            "responses": responses(
                answered(
                    "Products, the most viewed first.",
                    spanned("products", "ProductViews"),
                    {
                        "from": "2026-01-31T00:00:00Z",
                        "to": "2026-02-01T00:00:00Z",
                        "products": [{"productId": "p-42", "views": 17}],
                    },
                )
            ),
        }
    },
    "/activity/hourly": {
        "get": {
            "operationId": "getHourlyActivity",
            "summary": "Events by hour and type",
            "description": (
                "Of full hours: `from` is rounded down, `to` up, and the answer tells both. By default the last 24; at "
                "most 31 days. Hours in which nothing happened are left out."
            ),
            "tags": ["activity"],
            "parameters": [FROM, TO, EVENT_TYPE],
            "responses": responses(
                answered(
                    "Hours, the oldest first.",
                    spanned("hours", "HourOfActivity"),
                    {
                        "from": "2026-01-31T12:00:00Z",
                        "to": "2026-01-31T13:00:00Z",
                        "hours": [
                            {
                                "hour": "2026-01-31T12:00:00Z",
                                "eventType": "LOGIN",
                                "events": 12,
                                "distinctUsers": 9,
                            }
                        ],
                    },
                )
            ),
        }
    },
}


def by_query(path: Json, name: str) -> Json:
    """The same path with the user id in the query."""
    get = path["get"]
    asked = [{**USER_ID, "description": "Who acted.", "required": True}, *get["parameters"][1:]]
    summary = f"{get['summary']}, whatever their id"
    return {"get": get | {"operationId": name, "summary": summary, "description": BY_QUERY, "parameters": asked}}


USER_PATHS["/users/activity"] = by_query(USER_PATHS["/users/{id}/activity"], "getActivityOfAnyUser")
USER_PATHS["/users/sessions"] = by_query(USER_PATHS["/users/{id}/sessions"], "getSessionsOfAnyUser")
