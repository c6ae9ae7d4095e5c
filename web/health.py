"""The probe endpoints of each process, and the application of a process that serves nothing else."""

from collections.abc import Mapping

import msgspec

from telemetry.health import LIVENESS, Probe, check
from telemetry.metrics import exposition
from web import envelope
from web.asgi import App, Receive, Scope, Send, respond
from web.policies.passage import HEAD_KEY
from web.policies.principal import AccessScope, Principal

PROBES = ("/health", "/health/live", "/health/ready", "/metrics")
REFRESH = 0.25  # seconds; a server that is away must not make this process look like one that is down
JSON = b"application/json"
REFUSED_METHOD = envelope.failed("Method not allowed")
_encode = msgspec.json.Encoder().encode


def health_routes(side: str, probes: Mapping[str, Probe]) -> dict[str, App]:
    """The probe endpoints by path: `/health`, `/health/live`, `/health/ready` and `/metrics`.

    `/health` and `/health/ready` answer 200 when every dependency is ok and 503 otherwise; `/health/live` says
    that the process answers, and, where there is a probe `LIVENESS`, 503 when only a fresh process would help.
    Whoever may not read metrics gets the status alone.
    """

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        states = await check({LIVENESS: probes[LIVENESS]} if LIVENESS in probes else {})
        stuck = [state.detail for state in states.values() if not state.ok]
        told = {"side": side, **({"reason": stuck[0]} if stuck else {})} if sees_details(scope) else {}
        body = {"status": "stuck" if stuck else "ok", **told}
        await respond(send, 503 if stuck else 200, _encode(body), JSON)

    async def ready(scope: Scope, receive: Receive, send: Send) -> None:
        states = await check(probes)
        ok = all(state.ok for state in states.values())
        told = {"side": side, "dependencies": states} if sees_details(scope) else {}
        body = {"status": "ok" if ok else "unavailable", **told}
        await respond(send, 200 if ok else 503, _encode(body), JSON)

    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        await check(probes, REFRESH)  # a probe may refresh a gauge, such as processed_events
        body, content_type = exposition(dict(scope["headers"]).get(b"accept", b"").decode("latin-1"))
        await respond(send, 200, body, content_type.encode())

    routes = dict(zip(PROBES, (ready, live, ready, metrics), strict=True))
    return {path: _reading_only(route) for path, route in routes.items()}


def sees_details(scope: Scope) -> bool:
    """Whether the principal may be told more than that the process is ready: names and states of its dependencies."""
    principal: Principal | None = scope[HEAD_KEY].facts.get(Principal)
    return principal is not None and AccessScope.METRICS in principal.scopes


def _reading_only(route: App) -> App:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await route(scope, receive, send)
        else:
            await respond(send, 405, REFUSED_METHOD, JSON, (b"allow", b"GET, HEAD"))

    return guarded


async def only_probes(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a process that serves nothing but its probes."""
    if scope["type"] == "http":
        await respond(send, 404, b'{"error":"Not found"}', JSON)
