"""Serves the sides of a process over HTTP, each request behind its door, its limits and its transport."""

from collections.abc import Callable
from typing import Protocol

from footfall.processes.environment import tracing
from footfall.processes.identity import Door
from web.application import Side, web_app
from web.policies.limits.limit_side import LimitSide
from web.policies.refusal_pages import RefusalPages
from web.server import serve
from web.transport.transport import Transport


class Listening(Protocol):
    """The settings that say where a process listens, and how many connections it takes."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def max_connections_per_address(self) -> int: ...


def serve_sides(
    name: str,
    settings: Listening,
    door: Door,
    limits: LimitSide,
    transport: Transport,
    *sides: Side,
    on_exit: Callable[[], None] = lambda: None,
    pages: RefusalPages | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    `on_exit`: see `web.server.serve`. `pages`: see `web.application.web_app`.
    """
    app = web_app(
        name,
        door.policy,
        *door.sides,
        limits,
        *sides,
        first=[*door.proxies, *limits.first, *door.first],
        unparsed=limits.first,
        transport=transport,
        pages=pages,
    )
    with tracing(name):
        return serve(
            app,
            settings.host,
            settings.port,
            settings.max_connections,
            on_exit,
            settings.max_connections_per_address,
            transport.certificate,
        )
