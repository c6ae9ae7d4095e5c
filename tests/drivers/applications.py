"""The applications of all processes, as the processes make them, and every path that leads anywhere in them."""

import asyncio
import importlib
import json
import re
from types import ModuleType
from typing import Any

import pytest
from litestar import Litestar

import web.application
import web.server
from footfall.processes.environment import load_settings
from sinks.settings import SinkSettings
from web.asgi import App, Message, Receive, Scope, Send, respond
from web.health import only_probes
from web.hot_routes import RawRoutes
from web.middleware import Middleware
from web.policies.passage import HEAD_KEY
from web.policies.principal import Principal

PROCESSES = {
    "command_side": "run_command_side",
    "console": "run_console",
    "query_side": "run_query_side",
    "front": "run_front",
    "projector": "run_projector_process",
    "sink": "run_sink_process",
}

frameworks: list[Litestar] = []  # the one of the application that was made last


def application_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    """What the process of that name gives to its server."""
    process = importlib.import_module(f"footfall.processes.{name}")
    served: list[Middleware] = []

    def server_of_process(app: Middleware, *_: object, **_options: object) -> None:
        served.append(app)
        raise SystemExit

    async def only_serves(*arguments: Any, **_options: bool) -> None:
        stop = next(index for index, argument in enumerate(arguments) if isinstance(argument, asyncio.Event))
        serve_probes: Any = arguments[stop + 1]
        async with serve_probes({}):
            pass

    class NotedLitestar(Litestar):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            frameworks.append(self)

    frameworks.clear()
    monkeypatch.setattr(web.server, "server_of", server_of_process)
    monkeypatch.setattr(web.application, "Litestar", NotedLitestar)
    for patched in ("configure_logs", "require_own_sessions", "tune_garbage_collection"):
        monkeypatch.setattr(process, patched, lambda *_: None, raising=False)
    for patched in ("run_projector", "run_sink"):
        monkeypatch.setattr(process, patched, only_serves, raising=False)
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(SystemExit):
        run(process, name)
    monkeypatch.undo()
    [app] = served
    return app


def run(process: ModuleType, name: str) -> None:
    """Runs a process as its command does."""
    if name == "sink":  # its command reads the settings; the target is never reached
        process.run_sink_process("opensearch", load_settings(SinkSettings), None, anew=False)
    else:
        getattr(process, PROCESSES[name])(None)


def templates_of(app: Middleware) -> set[str]:
    """Every path that leads anywhere, as it is declared."""
    found = {*app.direct_routes, *(target.decode() for target in app.fast_handlers)}
    if isinstance(app.app, RawRoutes):
        [litestar] = frameworks
        found |= {*app.app.routes, *(re.sub(r":\w+\}", "}", route.path) for route in litestar.routes)}
    else:
        assert app.app is only_probes  # of projector and sink, whose routes are the direct ones
    return found


def paths_of(app: Middleware) -> set[str]:
    """Every path that leads anywhere, and some that lead nowhere."""
    found = {"/nowhere", "/health/", "//metrics"}
    for template in templates_of(app):
        path = re.sub(r"\{.*?\}", "x", template)
        found |= {path}
        if template not in app.direct_routes:
            found |= {f"{path.rstrip('/')}/x", f"{path}?position=0-1"}
    return found


def noting(ran: list[str], tenants: list[str] | None = None) -> App:
    """An application that notes the paths that it is asked for, and for which tenants, and answers 200."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        ran.append(scope["path"])
        if tenants is not None:
            tenants.append(scope[HEAD_KEY].fact(Principal).tenant_id)
        await respond(send, 200, b"{}", b"application/json")

    return run


async def ask(
    app: Middleware, method: str, path: str, headers: "list[tuple[bytes, bytes]] | None" = None
) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    """Status, headers and body of an answer on ASGI."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    scope: Scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope["headers"] = headers or []
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])
