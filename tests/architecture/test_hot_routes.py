"""Only what the list of hot paths names is plain ASGI; everything else is a typed route of Litestar."""

from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from command_side.api.openapi.document import document as commands
from command_side.app import CommandSide
from command_side.settings import CommandSettings
from query_side.app import QuerySide
from query_side.openapi.document import document as queries
from query_side.settings import QuerySettings
from tests.drivers.identity import OPEN
from tests.shipped_types import SHIPPED
from web.application import Side
from web.hot_routes import HOT

NOT_A_PATH = "/users//{what}"  # an empty user id: refused in the words of the routes of users


@pytest.fixture(scope="module")
def sides() -> list[Side]:
    queries_settings = QuerySettings(database_url="postgresql://u@h/d")  # type: ignore[arg-type]
    return [CommandSide(CommandSettings(), SHIPPED), QuerySide(queries_settings, SHIPPED, OPEN)]


def test_what_is_plain_asgi_is_in_the_list_and_nothing_else(sides: list[Side]) -> None:
    raw = {path for side in sides for path in (*side.raw_routes, *side.direct_routes)}
    assert raw - {NOT_A_PATH} == set(HOT)
    assert {path.decode() for side in sides for path in side.fast_handlers} <= set(HOT)
    assert all(len(reason.split()) >= 8 for reason in HOT.values())


def test_every_other_route_is_typed_and_in_the_document_unless_it_is_a_document(sides: list[Side]) -> None:
    typed = [handler for side in sides for handler in handlers_of(side) if handler.resolve_include_in_schema()]
    described: dict[str, Any] = {**commands(SHIPPED)["paths"], **queries(SHIPPED)["paths"]}
    assert set(described) == {path_of(handler) for handler in typed} | set(HOT)
    for handler in typed:
        assert issubclass(answer_of(handler), msgspec.Struct), path_of(handler)


def handlers_of(side: Side) -> list[HTTPRouteHandler]:
    app = Litestar(list(side.route_handlers), openapi_config=None, logging_config=None)
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    return [one for route in routes for one in route.route_handlers if "GET" in one.http_methods]


def path_of(handler: HTTPRouteHandler) -> str:
    [path] = handler.paths
    return path.replace(":str}", "}")


def answer_of(handler: HTTPRouteHandler) -> type:
    """The struct that a route answers with, whether one, a list or in a response with headers."""
    found = handler.parsed_fn_signature.return_type
    while found.inner_types:
        [found] = found.inner_types
    kind = found.annotation
    assert isinstance(kind, type)
    return kind
