"""The route `GET /events/{eventId}/status`: the status of one event, after a wait if the client prefers one."""

from typing import Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from query_side.api.asking import principal_of
from query_side.api.declared import EventId
from query_side.api.dependencies import TheTenant
from query_side.api.described import OF_EVERY_READ, refused
from query_side.api.reading import ALWAYS_JSON, AnyRequest
from query_side.feed.event_status import Status, Statuses, at_most_one
from query_side.log_positions.positions import TenantPositions, positions_of, wait_of
from web.tenants.position_tokens import PositionTokens


@get(
    "/events/{eventId:str}/status",
    operation_id="getEventStatus",
    summary="The life of one event",
    description="With `position`, of the record there; waits for it as long as `Prefer: wait` says.",
    tags=["events"],
    response_description="What became of it.",
    responses={
        **{status: answer for status, answer in OF_EVERY_READ.items() if status != 409},  # it tells what is so
        400: refused("The id is no UUID.", "The event id in the path must be a UUID."),
    },
    opt={ALWAYS_JSON: True},
)
async def event_status(
    request: AnyRequest,
    tenant: TheTenant,
    tokens: NamedDependency[SkipValidation[PositionTokens]],
    statuses: NamedDependency[SkipValidation[Statuses]],
    event_id: EventId,
) -> Status:
    """Answers the status of an event. Raises RefusedError (400) for more than one position."""
    scope: Any = request.scope
    mine = TenantPositions(tokens, tenant)
    position = at_most_one(positions_of(scope["query_string"], scope["headers"], mine))
    return await statuses.of(principal_of(scope), mine, event_id, position, wait_of(scope["headers"]))
