"""One guard for every typed route: its query string and its path are read strictly, and every problem is told at once.

Litestar by itself ignores parameters that it does not know, takes the last of those that are repeated, and stops at
the first part of a request that is wrong. So this guard runs before it. It reads the parameters that the route's own
signature declares, with the rules of `Parameters`, and refuses with a sentence for each problem. What it lets through
it leaves in the one spelling that Litestar's conversion reads: `007` is 7, and a date is its first moment in UTC.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from litestar.connection import ASGIConnection
from litestar.enums import ParamType
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg
from litestar.types import Guard
from litestar.typing import FieldDefinition

from query_side.api.parameters import MAX_TEXT_LENGTH, Parameters, event_id_of, user_id_of
from query_side.log_positions.positions import parameters as fields_of
from query_side.log_positions.positions import without_position

CHECKED_TOGETHER = "checked_together"  # of a route's `opt`: rules for several parameters; each notes what is wrong
Reader = Callable[[Parameters], str | list[str] | None]


class Declared(NamedTuple):
    """The query parameters of a route's signature, by the names that clients know: how each is read."""

    readers: Mapping[str, Reader]
    single: Sequence[str]
    repeatable: Sequence[str]


def strict(event_types: tuple[str, ...]) -> Guard:
    """The guard, where these are the event types that there are. It raises RefusedError, 400."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _copy: BaseRouteHandler) -> None:
        check_strictly(connection, event_types)  # in a coroutine, for Litestar runs others in a thread

    return guard


def check_strictly(connection: ASGIConnection[Any, Any, Any, Any], event_types: tuple[str, ...]) -> None:
    """Reads query and path strictly. Raises RefusedError, 400."""
    scope: Any = connection.scope
    # `position` belongs to every route, so it is kept from the check of this one's parameters.
    positions = [field for field in fields_of(scope["query_string"]) if field[0] == "position"]
    scope["query_string"] = without_position(scope["query_string"])
    scope["path_params"] = {name: path_text(name, text) for name, text in connection.path_params.items()}
    handler: BaseRouteHandler = connection.route_handler  # a guard is given a copy of it, a new one each time
    declared = declared_by(handler, event_types)
    parameters = Parameters(scope["query_string"], declared.single, declared.repeatable)
    for rule in handler.opt.get(CHECKED_TOGETHER, ()):
        rule(parameters)
    found = {name: read(parameters) for name, read in declared.readers.items()}
    parameters.problems = [*dict.fromkeys(parameters.problems)]  # a rule has read some of them, too
    parameters.check()
    kept = [(name, value) for name, value in found.items() if value is not None]
    scope["query_string"] = urlencode([*kept, *positions], doseq=True).encode()


@cache
def declared_by(handler: BaseRouteHandler, event_types: tuple[str, ...]) -> Declared:
    """What a route declares."""
    fields = {
        field.kwarg_definition.name or name: field
        for name, field in handler.parsed_fn_signature.parameters.items()
        if not field.is_di_field
        and isinstance(field.kwarg_definition, ParameterKwarg)
        and field.kwarg_definition.param_type is ParamType.QUERY
    }
    repeatable = [name for name, field in fields.items() if field.is_non_string_sequence]
    return Declared(
        readers={name: reader_of(name, field, event_types) for name, field in fields.items()},
        single=[name for name in fields if name not in repeatable],
        repeatable=repeatable,
    )


def reader_of(name: str, field: FieldDefinition, event_types: tuple[str, ...]) -> Reader:
    """The reader of `Parameters` that fits the declaration: its type, and its bounds."""
    bounds = field.kwarg_definition
    assert isinstance(bounds, ParameterKwarg)
    kinds = {kind.annotation for kind in field.inner_types} if field.is_union else {field.annotation}
    if field.is_non_string_sequence:
        return lambda parameters: list(parameters.choices(name, event_types))
    if int in kinds:
        most = int(bounds.le or 0)
        return lambda parameters: as_text(parameters.number(name, most))
    if datetime in kinds:
        return lambda parameters: as_text(parameters.moment(name))
    if bounds.max_length == MAX_TEXT_LENGTH:
        return lambda parameters: required(parameters, name) if field.is_required else parameters.text(name)
    return lambda parameters: parameters.raw(name)


def required(parameters: Parameters, name: str) -> str | None:
    """A name that has to be there."""
    value = parameters.text(name)
    if value is None:
        parameters.problems.append(f"Parameter `{name}` is required here.")
    return value


def as_text(value: int | datetime | None) -> str | None:
    """As Litestar's conversion reads it."""
    return value.isoformat() if isinstance(value, datetime) else None if value is None else str(value)


def path_text(name: str, segment: str) -> str:
    """A parameter of the path. Raises RefusedError, 400."""
    return str(event_id_of(segment)) if name == "eventId" else user_id_of(segment)
