"""`/users/{id}/..`, `/products/top` and `/activity/hourly`: what the projections know, as JSON.

A user without events has no activity (404); their sessions are an empty list. Each path with a user id has a twin that
takes it from the query: clients resolve `/users/../activity` before they ask, however it is written (RFC 3986, 5.2.4).
"""

from datetime import timedelta
from functools import partial
from typing import Annotated
from urllib.parse import quote, urlencode

from litestar import Response, get

from query_side.activity import queries as projections
from query_side.activity.hour_range import full_hours, within
from query_side.activity.queries import (
    HourlyActivity,
    HourOfActivity,
    ProductViews,
    TopProducts,
    UserActivity,
    UserSession,
)
from query_side.api.declared import AnyUserId, Cursor, From, OfTypes, To, UserId, at_most
from query_side.api.dependencies import Connected, TheCursors, TheKeptAnswers, TheTenant
from query_side.api.described import LINK, NEGOTIATED, refused
from query_side.api.parameters import DOT_SEGMENTS
from query_side.api.strictness import CHECKED_TOGETHER
from query_side.events.pages import unpacked
from query_side.events.responses import FOREIGN_CURSOR
from query_side.log_positions.cursors import TenantCursors
from read_model.connecting.pool import Connection
from read_model.wire_time import wire_time
from web.policies.decisions import RefusedError

MAX_SESSIONS, DEFAULT_SESSIONS = 200, 50  # of one answer
MAX_PRODUCTS, DEFAULT_PRODUCTS = 1_000, 10
USUAL_RANKING, MAX_RANKING = timedelta(days=7), timedelta(days=366)
USUAL_ACTIVITY, MAX_ACTIVITY = timedelta(days=1), timedelta(days=31)

NO_EVENTS = "No events of this user are in the read model (they may not be projected yet)."
BY_QUERY = (
    "For ids that no path can carry: clients resolve `.` and `..`, and what stands before them may unescape `%2F`."
)
Sessions = Annotated[int, at_most(MAX_SESSIONS, DEFAULT_SESSIONS)]
Products = Annotated[int, at_most(MAX_PRODUCTS, DEFAULT_PRODUCTS)]


get_activity = partial(
    get,
    tags=["users"],
    response_description="Counts, and how the user stands.",
    responses=NEGOTIATED | {404: refused("The user has no events, or not yet.", NO_EVENTS)},
)
get_sessions = partial(
    get, tags=["users"], response_description="The sessions.", response_headers=[LINK], responses=NEGOTIATED
)


@get_activity("/users/{id:str}/activity", operation_id="getUserActivity", summary="What one user did")
async def user_activity(connection: Connected, tenant: TheTenant, user_id: UserId) -> UserActivity:
    """Raises RefusedError, 404, for a user without events."""
    return await activity_of(connection, tenant, user_id)


@get_activity(
    "/users/activity",
    operation_id="getActivityOfAnyUser",
    summary="What one user did, whatever their id",
    description=BY_QUERY,
)
async def activity_of_any_user(connection: Connected, tenant: TheTenant, user_id: AnyUserId) -> UserActivity:
    """Raises RefusedError, 404, for a user without events."""
    return await activity_of(connection, tenant, user_id)


async def activity_of(connection: Connection, tenant_id: str, user_id: str) -> UserActivity:
    found = await projections.user_activity(connection, tenant_id, user_id)
    if found is None:
        raise RefusedError(404, NO_EVENTS)
    return found


@get_sessions(
    "/users/{id:str}/sessions",
    operation_id="getUserSessions",
    summary="Sessions of one user, the newest first",
    description="From a LOGIN to the LOGOUT, or the next LOGIN, in the log. Empty for a user without any.",
)
async def user_sessions(
    connection: Connected,
    tenant: TheTenant,
    cursors: TheCursors,
    user_id: UserId,
    limit: Sessions = DEFAULT_SESSIONS,
    cursor: Cursor = None,
) -> Response[list[UserSession]]:
    """A page of them. Raises RefusedError, 400, for a cursor of another request."""
    if user_id in DOT_SEGMENTS:
        return await sessions_of(connection, tenant, cursors.of(tenant), user_id, limit, cursor)
    path = f"/users/{quote(user_id, safe='')}/sessions"
    return await sessions_of(connection, tenant, cursors.of(tenant), user_id, limit, cursor, path)


@get_sessions(
    "/users/sessions",
    operation_id="getSessionsOfAnyUser",
    summary="Sessions of one user, the newest first, whatever their id",
    description=BY_QUERY,
)
async def sessions_of_any_user(
    connection: Connected,
    tenant: TheTenant,
    cursors: TheCursors,
    user_id: AnyUserId,
    limit: Sessions = DEFAULT_SESSIONS,
    cursor: Cursor = None,
) -> Response[list[UserSession]]:
    """A page of them. Raises RefusedError, 400, for a cursor of another request."""
    return await sessions_of(connection, tenant, cursors.of(tenant), user_id, limit, cursor)


async def sessions_of(
    connection: Connection,
    tenant_id: str,
    cursors: TenantCursors,
    user_id: str,
    limit: int,
    cursor: str | None,
    path: str | None = None,
) -> Response[list[UserSession]]:
    """A page, and the `Link` to the next one: at `path`, or at the path that takes the user id from the query."""
    bound_to = b"sessions:" + user_id.encode()
    payload = None if cursor is None else cursors.open(cursor, bound_to)
    if cursor is not None and payload is None:
        raise RefusedError(400, errors=[FOREIGN_CURSOR])
    after = None if payload is None else unpacked(payload)
    found, last = await projections.user_sessions(connection, tenant_id, user_id, after, limit)
    if last is None:
        return Response(found)
    query = {"limit": limit, "cursor": cursors.seal(last.packed(), bound_to)}
    target = f"{path}?{urlencode(query)}" if path else f"/users/sessions?{urlencode({'userId': user_id, **query})}"
    return Response(found, headers={"link": f'<{target}>; rel="next"'})


@get(
    "/products/top",
    operation_id="getTopProducts",
    summary="The most viewed products",
    description="Of full hours: `from` is rounded down, `to` up, and the answer tells both. By default the last 7 "
    "days; at most 366.",
    tags=["products"],
    response_description="Products, the most viewed first.",
    responses=NEGOTIATED,
    opt={CHECKED_TOGETHER: [within(USUAL_RANKING, MAX_RANKING)]},
)
async def top_products(
    connection: Connected,
    tenant: TheTenant,
    kept: TheKeptAnswers,
    since: From = None,
    until: To = None,
    limit: Products = DEFAULT_PRODUCTS,
) -> TopProducts:
    """The most viewed products of a span of hours."""
    begin, end = full_hours(since, until, USUAL_RANKING)
    ask = partial(projections.top_products, connection, tenant, begin, end, limit)
    found = await kept.of(connection, tenant, ("top products", begin, end, limit), list[ProductViews], ask)
    return TopProducts(wire_time(begin), wire_time(end), found)


@get(
    "/activity/hourly",
    operation_id="getHourlyActivity",
    summary="Events by hour and type",
    description="Of full hours: `from` is rounded down, `to` up, and the answer tells both. By default the last 24; at "
    "most 31 days. Hours in which nothing happened are left out.",
    tags=["activity"],
    response_description="Hours, the oldest first.",
    responses=NEGOTIATED,
    opt={CHECKED_TOGETHER: [within(USUAL_ACTIVITY, MAX_ACTIVITY)]},
)
async def activity_hourly(
    connection: Connected,
    tenant: TheTenant,
    kept: TheKeptAnswers,
    since: From = None,
    until: To = None,
    event_types: OfTypes = (),
) -> HourlyActivity:
    """Events of each type in each hour of a span."""
    begin, end = full_hours(since, until, USUAL_ACTIVITY)
    ask = partial(projections.activity_hourly, connection, tenant, begin, end, event_types)
    found = await kept.of(connection, tenant, ("hours", begin, end, *event_types), list[HourOfActivity], ask)
    return HourlyActivity(wire_time(begin), wire_time(end), found)


ACTIVITY_ROUTES = [
    user_activity,
    activity_of_any_user,
    user_sessions,
    sessions_of_any_user,
    top_products,
    activity_hourly,
]
