"""`DELETE /users/{id}`: asks for the erasure of a user. The answer says what the log keeps all the same."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from litestar import Request, Response, Router, route
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.enums import HttpMethod
from litestar.exceptions import MethodNotAllowedException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter, SkipValidation
from litestar.types import Guard

from command_side.erasures import Erasures, NotRequested, Requested
from command_side.publishing.event_log import Away, Busy, Failed, KeysAway, TooLarge, Unknown
from contracts.event import MAX_USER_ID_LENGTH
from contracts.validation.rules import is_user_id
from telemetry.undone import UNDONE, Undone
from web.middleware import REQUEST_ID_KEY
from web.policies.access import FORBIDDEN, note_refused_erasure
from web.policies.decisions import Refuse
from web.policies.passage import HEAD_KEY, refusal_body
from web.policies.principal import AccessScope, Principal
from web.tenants.position_tokens import PositionTokens

ERASE, ERASE_ANY = "/users/{id:str}", "/users"
ANY_METHOD = [HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]
RETRY_AFTER = ((b"retry-after", b"2"),)
BAD_USER = f"The user id must be 1 to {MAX_USER_ID_LENGTH} characters without control characters, in UTF-8."
MAX_FIELDS = 50  # `name=value` in one query string
# What became of the request; each may be sent again, for a second erasure changes nothing.
REFUSALS: Mapping[type, Refuse] = {
    Failed: Refuse(500, "Kafka did not take the request in every partition; send it again."),
    TooLarge: Refuse(500, "Kafka did not take the request in every partition; send it again."),
    Unknown: Refuse(503, "Kafka did not answer in time: send the request again, which does no harm.", RETRY_AFTER),
    Busy: Refuse(503, "Too many records wait for Kafka; send the request again shortly.", RETRY_AFTER),
    Away: Refuse(503, "Kafka does not answer; send the request again shortly.", RETRY_AFTER),
    KeysAway: Refuse(503, "The key store does not answer; send the request again shortly.", RETRY_AFTER),
}

WHY_FAILED: Mapping[type, str] = {
    Failed: "Kafka did not take it in every partition",
    TooLarge: "Kafka did not take it in every partition",
    Unknown: "unknown, some partitions may have it",
    Busy: "too many records waited for Kafka",
    Away: "Kafka did not answer",
    KeysAway: "the key store did not answer",
}


class ErasureRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What was asked for. `positions`: of the markers in the log; none for a tenant that gets no positions."""

    erasure_id: str
    requested_at: str
    positions: list[str]
    remains: list[str]


class ErasureAnswer(msgspec.Struct, frozen=True):
    """The request is in the log; rows go as soon as the projectors reach it."""

    erasure: ErasureRequest
    success: bool = True
    event: None = None
    errors: None = None
    error: None = None


class NotErasedError(Exception):
    """The request is refused, or was not taken."""

    def __init__(self, answer: Refuse) -> None:
        super().__init__(answer.error)
        self.answer = answer


# Documented, and checked in `erased`: of a path, Litestar would count the characters of the percent-encoding.
USER: dict[str, Any] = {
    "schema_extra": {
        "min_length": 1,
        "max_length": MAX_USER_ID_LENGTH,
        "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
    },
    "examples": [Example(value="user-123")],
}
UserInPath = Annotated[
    str,
    PathParameter(name="id", description="Who is to be forgotten, percent-encoded; `%2F` belongs to the id.", **USER),
]
UserInQuery = Annotated[str, QueryParameter(name="userId", description="Who is to be forgotten.", **USER)]
TheErasures = NamedDependency[SkipValidation[Erasures]]
Tokens = NamedDependency[SkipValidation[PositionTokens]]


async def only_delete(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard. Raises MethodNotAllowedException."""
    if connection.scope.get("method") != "DELETE":
        raise MethodNotAllowedException


def takes_only(*names: str) -> Guard:
    """A guard: the query string has each of these parameters once, in UTF-8, and no other.

    Litestar would take the last of those that are repeated, ignore others, and replace what is not UTF-8: so it might
    erase somebody else.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        problem = query_problem(connection.scope["query_string"], names)
        if problem is not None:
            raise NotErasedError(Refuse(400, "", problems=(problem,)))

    return guard


def query_problem(query_string: bytes, names: Sequence[str]) -> str | None:
    """What is wrong with a query string that has to have each of these parameters once, and no other."""
    try:
        text = query_string.decode()
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS) if text else []
    except UnicodeDecodeError:
        return "The query string is not UTF-8."
    except ValueError:
        return f"The query string has more than {MAX_FIELDS} parameters."
    found = [name for name, _ in fields]
    if any(name not in names for name in found):
        return f"This path takes {'only ' + ', '.join(f'`{name}`' for name in names) if names else 'no parameters'}."
    return next((f"Parameter `{name}` must be given once." for name in names if found.count(name) != 1), None)


@route(ERASE, http_method=ANY_METHOD, status_code=202, guards=[only_delete, takes_only()])
async def erase_user(
    request: Request[Any, Any, Any], user_id: UserInPath, erasures: TheErasures, position_tokens: Tokens
) -> ErasureAnswer:
    """Raises NotErasedError."""
    return await erased(request, unquote_to_bytes(user_id), erasures, position_tokens)


@route(ERASE_ANY, http_method=ANY_METHOD, status_code=202, guards=[only_delete, takes_only("userId")])
async def erase_any_user(
    request: Request[Any, Any, Any], user_id: UserInQuery, erasures: TheErasures, position_tokens: Tokens
) -> ErasureAnswer:
    """For ids that no path can carry. Raises NotErasedError."""
    return await erased(request, user_id.encode(), erasures, position_tokens)


async def erased(
    request: Request[Any, Any, Any], user: bytes, erasures: Erasures, tokens: PositionTokens
) -> ErasureAnswer:
    scope: Any = request.scope
    principal = scope[HEAD_KEY].fact(Principal)
    if AccessScope.PRIVACY not in principal.scopes:  # a user may be called as a path of queries, which needs less
        note_refused_erasure(principal)
        raise NotErasedError(FORBIDDEN[AccessScope.PRIVACY])
    user_id = checked_user(user)
    result = await erasures.request(principal.tenant_id, user_id, scope[REQUEST_ID_KEY], principal.subject)
    if not isinstance(result, Requested):
        outcome = result.outcome if isinstance(result, NotRequested) else result
        UNDONE.note(
            Undone(principal.subject, principal.tenant_id, "privacy erase", "failed", WHY_FAILED[type(outcome)]),
            scope[REQUEST_ID_KEY],
        )
        raise NotErasedError(REFUSALS[type(outcome)])
    erasure = result.erasure
    texts = [tokens.text(principal.tenant_id, each.partition, each.offset) for each in result.positions]
    positions = [text for text in texts if text is not None]
    moment = erasure.requested_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return ErasureAnswer(ErasureRequest(str(erasure.erasure_id), moment, positions, erasures.remains))


def checked_user(user: bytes) -> str:
    """The user id. Raises NotErasedError, 400, for what can be none."""
    try:
        user_id = user.decode()
    except UnicodeDecodeError:
        user_id = ""
    if not is_user_id(user_id):
        raise NotErasedError(Refuse(400, "", problems=(BAD_USER,)))
    return user_id


def erasure_router(erasures: Erasures, tokens: PositionTokens) -> Router:
    """The routes, with what they publish to, and what writes positions."""
    return Router(
        "/",
        route_handlers=[erase_user, erase_any_user],
        dependencies={
            "erasures": Provide(lambda: erasures, sync_to_thread=False),
            "position_tokens": Provide(lambda: tokens, sync_to_thread=False),
        },
        exception_handlers={NotErasedError: refused, ValidationException: invalid},
    )


def refused(_request: Request[Any, Any, Any], error: NotErasedError) -> Response[bytes]:
    answer = error.answer
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(refusal_body(answer), status_code=answer.status, media_type="application/json", headers=headers)


def invalid(request: Request[Any, Any, Any], _error: ValidationException) -> Response[bytes]:
    return refused(request, NotErasedError(Refuse(400, "", problems=(BAD_USER,))))
