"""TLS in the process: both ways of a request, a certificate that is replaced, certificates of clients, and HSTS."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from pydantic import ValidationError

from contracts.event import DEFAULT_TENANT
from footfall.processes.transport import load_transport
from tests.drivers.tls import client, raw, served_by_tls, write
from tests.patience import PATIENCE
from tests.processes import wait_until
from web.asgi import Receive, Scope, Send, respond
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.decisions import ADMIT, Decision, Refuse, RequestPolicy
from web.policies.passage import HEAD_KEY
from web.policies.principal import OpenDoor
from web.policies.request_head import RequestHead
from web.transport.certificate import ServerCertificate
from web.transport.peer import PeerCertificate
from web.transport.settings import TlsSettings
from web.transport.transport import PLAIN, Transport

FAST = "/fast"
WHOLE = b"POST /fast HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"


class Recorded:
    """A process's HTTP layer; `seen`: scheme and client of each request, on the fast path (F) or on ASGI (A)."""

    def __init__(self, transport: Transport) -> None:
        self.seen: list[tuple[str, str, PeerCertificate | None]] = []
        self.port = 0
        fast = {FAST.encode(): self._fast}
        policies: list[RequestPolicy] = [*transport.policies(), OpenDoor(DEFAULT_TENANT), self._refuse_some]
        self.app = Middleware(
            self._app, "test", transport.probes(), fast_handlers=fast, policies=policies, unparsed=transport.policies()
        )

    def _refuse_some(self, head: RequestHead) -> Decision:
        return Refuse(403, "Not this.") if head.path == "/refused" else ADMIT

    def _fast(self, request: BufferedRequest) -> None:
        head = request.head
        self.seen.append(("F", head.scheme, head.facts.get(PeerCertificate)))
        request.answer(200, b'{"fast":true}', b"application/json")

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head = scope[HEAD_KEY]
        self.seen.append(("A", head.scheme, head.facts.get(PeerCertificate)))
        await respond(send, 200, b'{"fast":false}', b"application/json")


@contextlib.contextmanager
def served(transport: Transport) -> Iterator[Recorded]:
    recorded = Recorded(transport)
    with served_by_tls(recorded.app, transport) as recorded.port:
        yield recorded


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def settings(authority: trustme.CA, tmp_path: Path) -> Callable[..., TlsSettings]:
    write(authority, tmp_path / "server.pem", "server")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return lambda **fields: TlsSettings(tls_certificate_file=tmp_path / "server.pem", **fields)


def test_both_ways_of_a_request_work_over_tls_and_every_answer_keeps_browsers_at_it(
    authority: trustme.CA, settings: Callable[..., TlsSettings]
) -> None:
    transport = Transport(settings().certificate(), 1_000)
    with served(transport) as recorded, client(authority) as https:
        url = f"https://localhost:{recorded.port}"
        answer = raw(authority, recorded.port, WHOLE)
        assert answer.endswith(b'{"fast":true}')
        assert b"\r\nstrict-transport-security: max-age=1000\r\n" in answer
        assert https.get(f"{url}/other").json() == {"fast": False}
        large = b"x" * 300_000  # of several reads: it leaves the fast path
        assert https.post(url + FAST, content=large).status_code == 200
        assert recorded.seen == [("F", "https", None), ("A", "https", None), ("A", "https", None)]
        answers = [https.get(f"{url}/refused"), https.post(url + FAST), https.get(f"{url}/health")]
        assert [answer.headers["strict-transport-security"] for answer in answers] == ["max-age=1000"] * 3
        assert "days" in https.get(f"{url}/health/ready").json()["dependencies"]["certificate"]["detail"]
        garbage = raw(authority, recorded.port, b"GARBAGE\r\n\r\n")
        assert garbage.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nstrict-transport-security: max-age=1000\r\n" in garbage


def test_names_below_are_told_to_stay_at_tls_if_the_operator_says_so(
    authority: trustme.CA, settings: Callable[..., TlsSettings]
) -> None:
    for subdomains, expected in ((False, "max-age=31536000"), (True, "max-age=31536000; includeSubDomains")):
        given = settings(tls_hsts_subdomains=subdomains)
        transport = Transport(given.certificate(), given.tls_hsts_seconds, given.tls_hsts_subdomains)
        with served(transport) as recorded, client(authority) as https:
            answer = https.get(f"https://localhost:{recorded.port}/other")
            assert answer.headers["strict-transport-security"] == expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "CONNECT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_plain_http_is_answered_and_reaches_nothing(settings: Callable[..., TlsSettings], method: str) -> None:
    with served(Transport(settings().certificate(), 1_000)) as recorded:
        with socket.create_connection(("127.0.0.1", recorded.port), PATIENCE) as plain:
            plain.sendall(f"{method} /other HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head, _, body = until_closed(plain).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head
        assert b"strict-transport-security" not in head, "nobody may be told so in plain (RFC 6797, 7.2)"
        assert json.loads(body)["error"] == "This port speaks TLS: ask by https."
        with socket.create_connection(("127.0.0.1", recorded.port), PATIENCE) as nonsense:
            nonsense.sendall(b"nonsense\r\n\r\n")
            assert b"HTTP" not in until_closed(nonsense)
        assert recorded.seen == []


@pytest.mark.parametrize("method", [b"POST", b"DELETE"])
def test_what_follows_plain_http_is_not_kept(settings: Callable[..., TlsSettings], method: bytes) -> None:
    """A body that was sent with the head closes no way before the answer; who sends for ever is cut off."""
    with served(Transport(settings().certificate())) as recorded:
        for size in (200_000, 64_000_000):
            head = method + b" /other HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % size
            with socket.create_connection(("127.0.0.1", recorded.port), PATIENCE) as plain:
                if size < 1_000_000:
                    plain.sendall(head + b"x" * size)
                    assert until_closed(plain).startswith(b"HTTP/1.1 400 ")
                else:
                    with pytest.raises(ConnectionError):
                        plain.sendall(head + b"x" * size)
        assert recorded.seen == []


def until_closed(connection: socket.socket) -> bytes:
    """What comes until the client, which has its answer, closes; at most until it is closed."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            found += chunk
            if found.endswith(b"}"):
                break
    return found


def test_production_listens_in_the_clear_only_here_or_if_it_is_said(
    settings: Callable[..., TlsSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    for host in ("127.0.0.1", "::1", "localhost"):
        assert load_transport(host) is PLAIN
    for host in ("::", "0.0.0.0", "10.0.0.7"):  # noqa: S104 - nobody listens
        with pytest.raises(SystemExit, match="1"):
            load_transport(host)
        assert f"in the clear to {host}. Set it;" in capsys.readouterr().err
    monkeypatch.setenv("HTTP_ALLOW_PLAINTEXT", "true")
    assert load_transport("::") is PLAIN
    monkeypatch.delenv("HTTP_ALLOW_PLAINTEXT")
    monkeypatch.setenv("TLS_CERTIFICATE_FILE", str(settings().tls_certificate_file))
    monkeypatch.setenv("TLS_HSTS_SUBDOMAINS", "true")
    found = load_transport("::")
    assert (found.certificate is None, found.hsts_subdomains) == (False, True)
    monkeypatch.setenv("ENVIRONMENT", "development")
    monkeypatch.delenv("TLS_CERTIFICATE_FILE")
    assert load_transport("::") is PLAIN


def test_old_versions_of_tls_are_refused(authority: trustme.CA, settings: Callable[..., TlsSettings]) -> None:
    with served(Transport(settings().certificate())) as recorded:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", recorded.port), PATIENCE) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="localhost")


def test_ciphers_without_authenticated_encryption_are_refused(
    authority: trustme.CA, settings: Callable[..., TlsSettings]
) -> None:
    with served(Transport(settings().certificate())) as recorded:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        for ciphers, is_served in (("ECDHE+AES+SHA256:!AESGCM", False), ("ECDHE+AESGCM", True)):
            context.set_ciphers(ciphers)
            with (
                socket.create_connection(("127.0.0.1", recorded.port), PATIENCE) as plain,
                contextlib.nullcontext() if is_served else pytest.raises(ssl.SSLError),
                context.wrap_socket(plain, server_hostname="localhost") as talking,
            ):
                assert is_served
                assert "GCM" in str(talking.cipher())


def test_a_certificate_that_is_replaced_is_served_without_a_restart(
    authority: trustme.CA, settings: Callable[..., TlsSettings], tmp_path: Path
) -> None:
    with served(Transport(settings().certificate())) as recorded:
        old = certificate_of(authority, recorded.port)
        with client(authority) as https:  # a connection that stays open
            url = f"https://localhost:{recorded.port}/other"
            assert https.get(url).status_code == 200
            (tmp_path / "server.pem").write_bytes(b"half of a file")
            assert certificate_of(authority, recorded.port) == old
            write(authority, tmp_path / "next.pem", "server").replace(tmp_path / "server.pem")
            wait_until(lambda: certificate_of(authority, recorded.port) != old, 20, "the next certificate")
            assert https.get(url).status_code == 200


def certificate_of(authority: trustme.CA, port: int) -> bytes | None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True)


def test_the_certificate_of_a_client_is_a_fact_of_its_requests(
    authority: trustme.CA, settings: Callable[..., TlsSettings], tmp_path: Path
) -> None:
    known = write(authority, tmp_path / "client.pem", "billing", organization_name="Example")
    foreign = write(trustme.CA(), tmp_path / "foreign.pem", "billing")
    optional = settings(tls_client_ca_file=tmp_path / "ca.pem")
    with served(Transport(optional.certificate())) as recorded:
        url = f"https://localhost:{recorded.port}"
        with client(authority, file=known) as https:
            assert raw(authority, recorded.port, WHOLE, known).endswith(b'{"fast":true}')
            assert https.get(f"{url}/other").status_code == 200
        with client(authority) as https:
            assert https.get(f"{url}/other").status_code == 200
        with client(authority, file=foreign) as https, pytest.raises(httpx.TransportError):
            https.get(f"{url}/other")
        first, second, third = (peer for _, _, peer in recorded.seen)
        assert first == second
        assert (first.common_name, first.names) == ("billing", ("DNS:localhost",)) if first else False
        assert first is not None
        assert first.subject.startswith("CN=billing,")
        assert third is None
    required = settings(tls_client_ca_file=tmp_path / "ca.pem", tls_client_certificates="required")
    with served(Transport(required.certificate())) as recorded, client(authority) as https:
        with pytest.raises(httpx.TransportError):
            https.get(f"https://localhost:{recorded.port}/other")
        assert recorded.seen == []


def test_a_client_that_does_not_shake_hands_is_given_up(
    settings: Callable[..., TlsSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.transport.handshakes.HANDSHAKE_TIMEOUT", 0.5)
    with (
        served(Transport(settings().certificate())) as recorded,
        socket.create_connection(("127.0.0.1", recorded.port), PATIENCE) as silent,
    ):
        assert silent.recv(1) == b""


def test_health_says_when_a_certificate_ends(authority: trustme.CA, tmp_path: Path) -> None:
    def state(ends_in: timedelta) -> tuple[bool, str]:
        file = write(authority, tmp_path / "server.pem", "server", not_after=datetime.now(UTC) + ends_in)
        found = asyncio.run(ServerCertificate(file, None, "", None, required=False).state())
        return found.ok, found.detail

    assert state(timedelta(days=100, hours=1))[0]
    assert state(timedelta(days=3, hours=1))[1].endswith("3 days: renew it")
    ok, detail = state(timedelta(hours=-1))
    assert not ok
    assert detail.startswith("expired at")


def test_files_that_cannot_be_used_are_refused_by_name(
    authority: trustme.CA, settings: Callable[..., TlsSettings], tmp_path: Path
) -> None:
    other = write(authority, tmp_path / "other.pem", "other")
    with pytest.raises(ValidationError, match="KEY_VALUES_MISMATCH"):
        settings(tls_key_file=other)
    with pytest.raises(ValidationError, match=r"none\.pem cannot be read: No such file"):
        settings(tls_client_ca_file=tmp_path / "none.pem")
    with pytest.raises(ValidationError, match="TLS_CERTIFICATE_FILE is not set"):
        TlsSettings(tls_key_file=other)
