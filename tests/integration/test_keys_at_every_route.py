"""Every route x {no key, wrong, expired, revoked, other scope, public, other tenant} x both ways of a POST."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from identity.keys.key_text import new_key
from tests.drivers.applications import PROCESSES, application_of, ask, noting, paths_of
from tests.drivers.keys import ORIGIN, HandMadeRegister
from tests.drivers.raw_http import DIRECT, ON_ASGI, Client, port_of, post, served
from web.access import PUBLIC, READ, needed_for
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import canonical

OTHER = "acme"  # a tenant
SAYING_DEFAULT = [(name, b"default") for name in (b"tenant", b"x-tenant-id", b"footfall-tenant")]
READS = {READ, AccessScope.EXPORT}


@pytest.fixture(params=PROCESSES)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    """What a process gives to its server."""
    return application_of(request.param, monkeypatch)


def credentials(made: HandMadeRegister, needed: AccessScope | None) -> dict[str, tuple[str, int]]:
    """What is shown, and the status of the refusal; `needed`: None for a path that nobody declared."""
    others = [scope for scope in AccessScope if scope not in (needed, AccessScope.OPERATOR)]
    lacking = 404 if needed is None else 403
    return {
        "no key": ("", 401),
        "wrong": (new_key("secret"), 401),
        "expired": (made.key("operator", expires_in=timedelta(seconds=-1)), 401),
        "revoked": (made.key("operator", revoked=True), 401),
        "other scope": (made.key("secret", others), lacking),
        **({} if needed is AccessScope.EVENTS_WRITE else {"public": (made.key("public"), lacking)}),
    }


async def test_no_path_lets_a_key_in_that_is_not_for_it(app: Middleware) -> None:
    ran: list[str] = []
    tenants: list[str] = []
    made = HandMadeRegister()
    paths = {path for path in paths_of(app) if "?" not in path}
    app.app = noting(ran, tenants)
    app.direct_routes = dict.fromkeys(app.direct_routes, noting(ran, tenants))
    app.policies = (made.identity, check_access)
    for path in sorted(paths):
        needed = needed_for(canonical(path.encode()))
        if needed is PUBLIC:
            continue
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            for shown, (key, status) in credentials(made, needed).items():
                answer = await ask(app, method, path, headers_with(key))
                assert answer[0] == status, (path, method, shown)
                assert not ran
        if needed is not None:
            for tenant in ("default", OTHER):  # whatever else a request says, its key says whose it is
                right = made.key("operator", [needed], tenant=tenant)
                assert (await ask(app, "GET", path, [*headers_with(right), *SAYING_DEFAULT]))[0] == 200
                assert (ran.pop(), tenants.pop()) == (canonical(path.encode()), tenant)


async def test_a_public_key_reads_nothing(app: Middleware) -> None:
    ran: list[str] = []
    made = HandMadeRegister()
    paths = {path for path in paths_of(app) if "?" not in path}
    app.app = noting(ran)
    app.policies = (made.identity, check_access)
    public = made.key("public")
    reads = {path for path in paths if needed_for(canonical(path.encode())) in READS}
    assert {(await ask(app, "GET", path, headers_with(public)))[0] for path in reads} <= {403}
    assert not ran


async def test_whoever_shows_a_key_that_is_void_sees_not_even_what_is_public(app: Middleware) -> None:
    app.policies = (HandMadeRegister().identity, check_access)
    assert (await ask(app, "GET", "/health/live", headers_with(new_key("secret"))))[0] == 401


async def test_probes_tell_strangers_one_word_and_the_operator_the_rest(app: Middleware) -> None:
    made = HandMadeRegister()
    app.policies = (made.identity, check_access)
    for path in ("/health", "/health/live", "/health/ready"):
        status, _, body = await ask(app, "GET", path)
        assert body == {"status": "ok" if status == 200 else "unavailable"}
        _, _, told = await ask(app, "GET", path, headers_with(made.key("operator")))
        assert told["side"]
    assert (await ask(app, "GET", "/metrics"))[0] == 401


async def test_both_ways_of_a_post_take_and_refuse_the_same_keys_with_the_same_bytes() -> None:
    asked: list[str] = []
    tenants: list[str] = []
    made = HandMadeRegister()

    def handle(request: BufferedRequest) -> None:
        asked.append(request.head.path)
        tenants.append(request.head.fact(Principal).tenant_id)
        request.answer(200, b"{}", b"application/json")

    behind = noting(asked, tenants)
    app = Middleware(behind, "test", {}, {}, {DIRECT.encode(): handle}, (made.identity, check_access))
    shown: dict[str, tuple[list[str], int]] = {
        name: ([f"Authorization: Bearer {key}"] if key else [], status)
        for name, (key, status) in credentials(made, AccessScope.EVENTS_WRITE).items()
    }
    public = f"Authorization: Bearer {made.key('public')}"
    shown |= {
        "right": ([f"Authorization: Bearer {made.key()}"], 200),
        "other tenant": ([f"Authorization: Bearer {made.key(tenant=OTHER)}", "Tenant: default"], 200),
        "public": ([public, f"Origin: {ORIGIN}"], 200),
        "public elsewhere": ([public, "Origin: https://evil.example"], 403),
        "public nowhere": ([public], 403),
        "two": ([public, public, f"Origin: {ORIGIN}"], 401),
    }
    async with served(app) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        for name, (headers, status) in shown.items():
            answers = [await client.ask(post("u", *headers, target=way)) for way in (DIRECT, ON_ASGI)]
            assert [answer[0] for answer in answers] == [status, status], name
            if status != 200:
                assert without_ids(answers[0]) == without_ids(answers[1]), name
        client.writer.close()
    assert asked == [DIRECT] * 6
    assert tenants == [*["default"] * 2, *[OTHER] * 2, *["default"] * 2]


def headers_with(key: str) -> list[tuple[bytes, bytes]]:
    origin = (b"origin", ORIGIN.encode())
    return [origin, (b"authorization", f"Bearer {key}".encode())] if key else [origin]


def without_ids(answer: tuple[int, dict[str, str], Any]) -> tuple[int, list[tuple[str, str]], Any]:
    status, headers, body = answer
    return status, [item for item in headers.items() if item[0] not in ("date", "x-request-id")], body
