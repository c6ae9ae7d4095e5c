"""Every path names the scope that it needs: default deny, 401 and 403, the same bytes on both ways of a POST."""

import asyncio
import re
from typing import Any

import pytest

from command_side.api.openapi.document import document as commands
from footfall.processes.identity import load_identity
from query_side.openapi.document import document as queries
from tests.drivers.applications import PROCESSES, application_of, ask, noting, paths_of, templates_of
from tests.drivers.raw_http import DIRECT, ON_ASGI, Client, port_of, post, served
from tests.shipped_types import SHIPPED
from web.access import ACCESS, PUBLIC, needed_for
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.browsers import Browsers
from web.policies.decisions import Admit, Decision
from web.policies.identity import NOBODY, Identity
from web.policies.principal import AccessScope, OpenDoor, Principal
from web.policies.request_head import RequestHead, canonical

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
UNDECLARED = "/nowhere"


@pytest.fixture(params=PROCESSES)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    """What a process gives to its server."""
    return application_of(request.param, monkeypatch)


def test_every_path_of_every_process_is_declared(app: Middleware) -> None:
    assert not templates_of(app) - ACCESS.keys(), "a line in web/access.py is missing: which scope do these need?"


def test_nothing_is_declared_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {path for name in PROCESSES for path in templates_of(application_of(name, monkeypatch))}
    assert set(ACCESS) == there


def test_access_stands_behind_identity_in_every_process(app: Middleware) -> None:
    first, identity, access, *_ = app.policies
    assert isinstance(first, Browsers)
    assert isinstance(identity, OpenDoor)
    assert access is check_access


def test_only_documents_and_probes_are_public() -> None:
    public = {path for path, needed in ACCESS.items() if needed is PUBLIC}
    documents = ("/docs", "/openapi/", "/asyncapi/", "/schema/events/")
    assert {path for path in public if not path.startswith(documents)} == {
        *("*", "/", "/health", "/health/live", "/health/ready"),
        *("/console/sign-in", "/console/sign-out", "/console/assets/{name}"),
    }


@pytest.mark.parametrize(
    "path", ["/events/generate/x", "/users/a/b", "/docs/a/b", "/events/a%2Fstatus/x", "/metrics/x"]
)
def test_what_is_not_declared_needs_what_nobody_has(path: str) -> None:
    assert needed_for(canonical(path.encode())) is None


async def test_a_principal_reaches_what_its_scopes_say_and_nothing_else(app: Middleware) -> None:
    paths = {path for path in paths_of(app) if "?" not in path}
    ran = recorded(app)
    principals = [NOBODY, *(Principal("acme", "key:1", frozenset({scope})) for scope in AccessScope)]
    for principal in principals:
        app.policies = (knows(principal), check_access)
        for path in sorted(paths):
            for method in METHODS:
                ran.clear()
                status, headers, body = await ask(app, method, path)
                needed = needed_for(canonical(path.encode()))
                if needed is PUBLIC or needed in principal.scopes:
                    assert len(ran) == 1, (principal, method, path)
                else:
                    assert status == status_for(principal, needed), (principal, method, path)
                    assert body.keys() == {"success", "event", "errors", "error"}
                    assert (b"www-authenticate" in headers) == (status in (401, 403))
                    assert not ran


async def test_a_percent_sign_that_encodes_nothing_reaches_no_path(app: Middleware) -> None:
    templates = sorted(path for path in templates_of(app) if "{" in path)
    ran = recorded(app)
    app.policies = (OpenDoor("default"), check_access)
    for template in templates:
        for method in METHODS:
            status, _, body = await ask(app, method, re.sub(r"\{.*?\}", "%zz", template))
            assert (status, "%25" in str(body["error"])) == (400, True), (method, template)
    assert not ran


async def test_what_was_not_declared_is_closed_to_all_but_who_may_do_everything() -> None:
    seen: list[str] = []
    app = Middleware(noting(seen), "test", {}, policies=[])
    some = Principal("acme", "key:1", frozenset(AccessScope) - {AccessScope.PRIVACY})
    everything = Principal("acme", "key:2", frozenset(AccessScope))
    for principal, expected in ((NOBODY, 401), (some, 404), (everything, 200)):
        app.policies = (knows(principal), check_access)
        assert (await ask(app, "GET", UNDECLARED))[0] == expected
    assert seen == [UNDECLARED]


async def test_both_ways_of_a_post_refuse_with_the_same_bytes() -> None:
    reader = Principal("acme", "key:1", frozenset({AccessScope.EVENTS_READ}))
    for principal in (NOBODY, reader):
        app = Middleware(noting([]), "test", {}, {}, {DIRECT.encode(): never}, (knows(principal), check_access))
        async with served(app) as server:
            client = await connected(port_of(server))
            answers = [await client.ask(post(target=target)) for target in (DIRECT, ON_ASGI)]
            assert [without_ids(answer) for answer in answers] == [without_ids(answers[0])] * 2
            client.writer.close()
        status, headers, body = answers[0]
        assert status == (401 if principal is NOBODY else 403)
        assert headers["www-authenticate"].startswith('Bearer realm="footfall"')
        assert body["error"]


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], b'Bearer realm="footfall"'),
        ([(b"authorization", b"Bearer x")], b'Bearer realm="footfall", error="invalid_token"'),
        ([(b"authorization", b"bearer  x ")], b'Bearer realm="footfall", error="invalid_token"'),
        ([(b"authorization", b"Basic eDp5")], b'Bearer realm="footfall", error="invalid_request"'),
        ([(b"authorization", b"Bearer")], b'Bearer realm="footfall", error="invalid_request"'),
        ([(b"authorization", b"Bearer a b")], b'Bearer realm="footfall", error="invalid_request"'),
        ([(b"authorization", b"Bearer x")] * 2, b'Bearer realm="footfall", error="invalid_request"'),
    ],
)
async def test_credentials_that_nobody_knows_are_refused(headers: list[tuple[bytes, bytes]], challenge: bytes) -> None:
    app = Middleware(noting([]), "test", {}, policies=[Identity([]), check_access])
    status, answered, _ = await ask(app, "GET", "/events/processed", headers)
    assert (status, answered[b"www-authenticate"]) == (401, challenge)


def test_production_does_not_start_open(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SystemExit, match="1"):
        load_identity("127.0.0.1")
    assert "AUTH: is `open`, and ENVIRONMENT=production does not start open to everybody" in capfd.readouterr().err
    monkeypatch.setenv("AUTH", "keys")
    monkeypatch.setenv("KAFKA_ALLOW_PLAINTEXT", "true")
    assert isinstance(load_identity("127.0.0.1").policy, Identity)


def test_the_documents_say_which_scope_an_operation_needs() -> None:
    operations = {**commands(SHIPPED)["paths"], **queries(SHIPPED)["paths"]}
    assert len(operations) > 10
    for path, methods in operations.items():
        for described in methods.values():
            assert described["x-scope"] == ACCESS[path]
            assert described["security"] == [{"bearer": []}, {}], "a server may be open"


# --- the pieces -------------------------------------------------------------------------------------------------------


def knows(principal: Principal) -> Any:
    """An identity policy that finds everybody to be that one."""

    def policy(_: RequestHead) -> Decision:
        return Admit(principal)

    return policy


def status_for(principal: Principal, needed: object) -> int:
    if principal is NOBODY:
        return 401
    return 403 if needed is not None else 404


def recorded(app: Middleware) -> list[str]:
    """Puts a recorder in place of whatever stands behind the policies. Returns what ran there."""
    ran: list[str] = []
    app.app = noting(ran)
    app.direct_routes = dict.fromkeys(app.direct_routes, noting(ran))
    return ran


def never(_: object) -> None:
    raise AssertionError("the request was not admitted")


async def connected(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


def without_ids(answer: tuple[int, dict[str, str], Any]) -> tuple[int, list[tuple[str, str]], Any]:
    status, headers, body = answer
    return (
        status,
        sorted((name, value) for name, value in headers.items() if name not in ("date", "x-request-id")),
        body,
    )
