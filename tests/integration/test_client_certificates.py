"""Machines that are known by their certificates: over TLS, on both ways of a POST, and behind a proxy."""

import json
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trustme
from cryptography.x509 import load_pem_x509_certificate

from footfall.processes.identity import load_identity
from identity.certificates.authenticator import CertificateAuthenticator
from identity.certificates.clients import ClientsFile, ClientsFileError, read_clients
from identity.settings import IdentitySettings
from tests.drivers.applications import ask, noting
from tests.drivers.keys import HandMadeRegister
from tests.drivers.raw_http import DIRECT, ON_ASGI, post
from tests.drivers.tls import client, client_certificate, raw, served_by_tls, write
from tests.patience import PATIENCE
from tests.processes import wait_until
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.decisions import ADMIT, Decision, RequestPolicy
from web.policies.identity import Authenticator, Identity
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead
from web.policies.trusted_proxies import TrustedProxies
from web.transport.peer import PeerCertificate, described
from web.transport.settings import TlsSettings
from web.transport.transport import Transport

BILLING, READER = "URI:spiffe://example.org/billing", "DNS:reader.example.org"
SUBJECT = "CN=operators,O=Example"
CLIENTS = [
    {"certificate": BILLING, "tenant": "acme", "scopes": ["events:write"]},
    {"certificate": READER, "tenant": "acme", "scopes": ["events:read"]},
    {"certificate": SUBJECT, "tenant": "default", "scopes": ["events:write", "operator"]},
]
LATER = 4_000_000_000.0
BEGIN = b"-----BEGIN CERTIFICATE-----"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clients.json"
    path.write_text(json.dumps(CLIENTS))
    return path


def test_a_certificate_stands_for_its_tenant_and_scopes_on_both_ways_of_a_post(tmp_path: Path, file: Path) -> None:
    authority, seen = trustme.CA(), list[tuple[str, str, str]]()
    write(authority, tmp_path / "server.pem", "server")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = TlsSettings(tls_certificate_file=tmp_path / "server.pem", tls_client_ca_file=tmp_path / "ca.pem")
    transport = Transport(settings.certificate())
    ours = {
        name: client_certificate(authority, tmp_path / f"{name}.pem", *names, subject=subject)
        for name, names, subject in (
            ("billing", [BILLING], "CN=x,O=y"),
            ("operators", ["DNS:x"], SUBJECT),
            ("reader", [READER], ""),
            ("unknown", ["DNS:other.example.org"], "CN=billing,CN=operators,O=Example"),
            ("two", [BILLING, READER], ""),
        )
    }

    def note(head: RequestHead) -> Decision:
        principal = head.fact(Principal)
        seen.append((head.path, principal.tenant_id, principal.subject))
        return ADMIT

    def handle(request: BufferedRequest) -> None:
        request.answer(200, b"{}", b"application/json")

    made = HandMadeRegister()
    known_by: list[Authenticator] = [
        *made.identity._authenticators,
        CertificateAuthenticator(ClientsFile(file).current),
    ]
    policies: list[RequestPolicy] = [Identity(known_by), check_access, note]
    app = Middleware(noting([]), "test", {}, {}, {DIRECT.encode(): handle}, policies)
    with served_by_tls(app, transport) as port:

        def statuses(shown: Path | None, *headers: str) -> list[int]:
            """On the fast path and on ASGI."""
            answers = [raw(authority, port, post("u", *headers, target=way), shown) for way in (DIRECT, ON_ASGI)]
            return [int(answer.split(b" ")[1]) for answer in answers]

        key = f"Authorization: Bearer {made.key('secret', tenant='of-the-key')}"
        forged = "X-Client-Cert: " + quote(ours["billing"].read_text())
        assert statuses(ours["billing"]) == [200, 200]
        assert statuses(ours["billing"], key) == [200, 200]
        assert statuses(ours["operators"]) == [200, 200]
        assert set(seen) == {
            (DIRECT, "acme", f"certificate:{BILLING}"),
            (DIRECT, "of-the-key", "key:k1"),
            (DIRECT, "default", f"certificate:{SUBJECT}"),
        }
        seen.clear()
        assert statuses(ours["billing"], "Authorization: Bearer no") == [401, 401], "what is shown counts"
        assert statuses(ours["billing"], "Origin: https://evil.example") == [401, 401], "a browser's user shows nothing"
        assert statuses(ours["billing"], "Sec-Fetch-Site: none") == [401, 401]
        assert statuses(ours["reader"]) == [403, 403]
        assert statuses(ours["unknown"]) == [401, 401]
        assert statuses(ours["two"]) == [401, 401]
        assert statuses(None) == [401, 401]
        assert statuses(None, forged) == [401, 401]
        with client(authority, file=ours["reader"]) as https:
            assert https.get(f"https://localhost:{port}/events/processed").status_code == 200
        seen.clear()
        for wrong in (
            client_certificate(trustme.CA(), tmp_path / "foreign.pem", BILLING),
            client_certificate(authority, tmp_path / "old.pem", BILLING, days=-1),
        ):
            with client(authority, file=wrong) as https, pytest.raises(httpx.TransportError):
                https.post(f"https://localhost:{port}{DIRECT}")
    assert not seen


def test_an_authority_that_is_taken_out_lets_nobody_in_any_more(tmp_path: Path) -> None:
    authority, gone = trustme.CA(), trustme.CA()
    write(authority, tmp_path / "server.pem", "server")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes() + gone.cert_pem.bytes())
    settings = TlsSettings(tls_certificate_file=tmp_path / "server.pem", tls_client_ca_file=tmp_path / "ca.pem")
    served = settings.certificate()
    shown = client_certificate(gone, tmp_path / "gone.pem", BILLING)
    with served_by_tls(Middleware(noting([]), "test", {}), Transport(served)) as port:
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        assert raw(authority, port, request, shown).startswith(b"HTTP/1.1 ")
        before = served.context.current
        authority.cert_pem.write_to_path(tmp_path / "next.pem")
        (tmp_path / "next.pem").replace(tmp_path / "ca.pem")
        wait_until(lambda: served.context.current is not before, PATIENCE, "the authorities to be read again")
        answer = b""
        with suppress(ssl.SSLError, ConnectionError):
            answer = raw(authority, port, request, shown)
        assert not answer
        assert raw(authority, port, request).startswith(b"HTTP/1.1 ")


def peer(*names: str, subject: str = "O=none", ends_at: float = LATER) -> PeerCertificate:
    return PeerCertificate(subject, "", ends_at, names)


async def status_of(file: Path, shown: PeerCertificate | None, now: float = 0.0) -> int:
    clients = ClientsFile(file)

    def with_certificate(head: RequestHead) -> Decision:
        if shown is not None:
            head.facts[PeerCertificate] = shown
        return ADMIT

    identity = Identity([CertificateAuthenticator(clients.current, lambda: now)])
    app = Middleware(noting([]), "test", {}, policies=[with_certificate, identity, check_access])
    return (await ask(app, "POST", DIRECT))[0]


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (peer(BILLING), 200),
        (peer("DNS:x", BILLING), 200),
        (peer(subject=SUBJECT), 200),
        (peer(subject="CN=operators"), 401),
        (peer(subject="O=Example,CN=operators"), 401),
        (peer(subject=f"{SUBJECT},C=DE"), 401),
        (peer("URI:spiffe://example.org/billing/"), 401),
        (peer("DNS:spiffe://example.org/billing"), 401),
        (peer(BILLING, subject=SUBJECT), 401),
        (peer(READER), 403),
        (peer(BILLING, ends_at=0.0), 401),
        (None, 401),
    ],
)
async def test_a_name_is_compared_whole(file: Path, shown: PeerCertificate | None, status: int) -> None:
    assert await status_of(file, shown) == status


async def test_a_certificate_ends_while_its_connection_lasts(file: Path) -> None:
    assert [await status_of(file, peer(BILLING, ends_at=10.0), now) for now in (9.9, 10.0)] == [200, 401]


def test_the_file_is_read_again_and_while_it_is_broken_nobody_is_let_in(file: Path) -> None:
    now = [0.0]
    clients = ClientsFile(file, lambda: now[0])

    def write_and_look(text: str) -> Any:
        file.write_text(text)
        now[0] += 1.0
        return clients.current()

    assert clients.current() is not None
    assert set(write_and_look(json.dumps(CLIENTS[:1]))) == {BILLING}
    assert write_and_look("[") is None
    assert set(write_and_look(json.dumps(CLIENTS))) == {BILLING, READER, SUBJECT}
    file.unlink()
    now[0] += 1.0
    assert clients.current() is None


@pytest.mark.parametrize(
    "listed",
    [
        CLIENTS[:1] * 2,
        [{**CLIENTS[0], "certificate": "billing"}],
        [{**CLIENTS[0], "scopes": ["everything"]}],
        [{**CLIENTS[0], "tenant": ""}],
        [{**CLIENTS[0], "more": 1}],
        {"certificate": BILLING},
    ],
)
def test_a_list_that_says_nothing_clear_is_refused(file: Path, listed: Any) -> None:
    file.write_text(json.dumps(listed))
    with pytest.raises(ClientsFileError):
        read_clients(file)


async def test_a_proxy_says_whose_certificate_it_saw_and_nobody_else_does(tmp_path: Path) -> None:
    _, begin, text = client_certificate(trustme.CA(), tmp_path / "x.pem", BILLING).read_bytes().partition(BEGIN)
    issued = begin + text
    header = (b"x-client-cert", quote(issued).encode())
    networks = IdentitySettings(trusted_proxies="10.0.0.0/8").proxies()
    own = peer("URI:spiffe://example.org/proxy")

    def found(client: str, headers: list[tuple[bytes, bytes]], name: str = "X-Client-Cert") -> object:
        head = RequestHead("POST", "/", b"/", b"", headers, (client, 1), "https", facts={PeerCertificate: own})
        TrustedProxies(networks, name)(head)
        return head.facts.get(PeerCertificate)

    forwarded_for = (b"x-forwarded-for", b"192.0.2.1")
    assert found("10.0.0.1", [forwarded_for, header]) == described(load_pem_x509_certificate(issued))
    assert found("192.0.2.1", [forwarded_for, header]) is own, "it is no proxy: its own certificate counts"
    for headers in ([], [header, header], [(header[0], b"junk")], [(header[0], b"%00" * 9)], [(header[0], b"")]):
        assert found("10.0.0.1", [forwarded_for, *headers]) is None, "a proxy's own certificate is nobody else's"
    assert found("10.0.0.1", [forwarded_for, header], "") is None


def test_settings_that_would_let_nobody_in_are_refused(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(**variables: object) -> str:
        with monkeypatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(name, str(value))
            with pytest.raises(SystemExit):
                load_identity("127.0.0.1")
        return capfd.readouterr().err

    assert "CLIENT_CERTIFICATES_FILE is not set" in refusal(AUTH="certificates")
    assert "TLS_CLIENT_CA_FILE" in refusal(AUTH="certificates", CLIENT_CERTIFICATES_FILE=file)
    assert "TRUSTED_PROXIES is not set" in refusal(CLIENT_CERTIFICATE_HEADER="X-Client-Cert")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8")
    monkeypatch.setenv("CLIENT_CERTIFICATE_HEADER", "X-Client-Cert")
    file.write_text("[{}]")
    assert "no list of clients" in refusal(AUTH="certificates", CLIENT_CERTIFICATES_FILE=file)
    file.write_text(json.dumps([{**CLIENTS[0], "scopes": list(AccessScope)}]))
    monkeypatch.setenv("AUTH", "certificates")
    monkeypatch.setenv("CLIENT_CERTIFICATES_FILE", str(file))
    assert "certificates" in load_identity("127.0.0.1").policy.probes  # type: ignore[attr-defined]
