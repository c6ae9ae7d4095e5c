"""Every way to a secured Kafka works, and each way that does not says why; production refuses what others can read."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from brokers.credentials import TokenEndpoint, TokenUnavailableError
from brokers.diagnosis import BrokersUnusableError, diagnose
from brokers.fetched_token import FetchedToken
from brokers.settings import KafkaSettings
from brokers.tls import TlsFiles, client_context, renewed
from brokers.troubles import Trouble
from footfall.cli.main import cli
from footfall.local.embedded.kafka.accounts import Rule
from projector.consuming.log_probe import LogProbe
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import start, wait_until
from tests.secured_broker import MACHINE, SecuredBroker, unsigned_token

TOPIC = "t"


async def seen(settings: KafkaSettings) -> list[Any]:
    """Which partitions a client finds."""
    probe = LogProbe(settings.client_options(), "test")
    try:
        async with asyncio.timeout(PATIENCE):
            return await probe.partitions_of(TOPIC)
    finally:
        await probe.close()


def test_every_mechanism_and_a_certificate_are_a_way_in(secured: SecuredBroker, tmp_path: Path) -> None:
    users = [*(secured.user(f"by-{name}", mechanism=name) for name in ("SCRAM-SHA-256", "SCRAM-SHA-512"))]
    ways = [{name.lower(): value for name, value in user.items()} for user in users]
    ways.append({"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "plain"})
    ways[-1]["kafka_sasl_password"] = "plain-password"
    (tmp_path / "token").write_text(unsigned_token("token-user"))
    ways.append({"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_sasl_token_file": str(tmp_path / "token")})
    ways.append(
        {
            "kafka_bootstrap_servers": f"127.0.0.1:{secured.ports['MTLS']}",
            "kafka_security_protocol": "SSL",
            "kafka_ssl_certificate_file": str(secured.certificates.file(MACHINE)),
        }
    )
    names = ("by-SCRAM-SHA-256", "by-SCRAM-SHA-512", "plain", "token-user", MACHINE)
    secured.allow(*(Rule(name, "DESCRIBE", "topic", TOPIC, prefixed=True) for name in names))
    secured.allow(Rule("by-SCRAM-SHA-512", "CREATE", "topic", TOPIC, prefixed=True))
    creating = CliRunner().invoke(cli, ["topics", "create"], env={**users[1], "ENVIRONMENT": "test", **topic_of(TOPIC)})
    assert creating.exit_code == 0, creating.output
    for way in ways:
        assert len(asyncio.run(seen(secured.settings(**way)))) == 6, way


def topic_of(name: str) -> dict[str, str]:
    return {"KAFKA_TOPIC": name, "KAFKA_DLQ_TOPIC": f"{name}-dlq", "KAFKA_AUDIT_TOPIC": f"{name}-audit"}


def test_what_is_wrong_is_told_apart(secured: SecuredBroker, tmp_path: Path) -> None:
    def at(listener: str, protocol: str) -> dict[str, Any]:
        return {
            "kafka_bootstrap_servers": f"127.0.0.1:{secured.ports[listener]}",
            "kafka_security_protocol": protocol,
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
        }

    (tmp_path / "token").write_text("not a token")
    token = {"kafka_sasl_mechanism": "OAUTHBEARER"}
    cases: list[tuple[Trouble, dict[str, Any]]] = [
        (Trouble.ANSWERS, {}),
        (Trouble.WRONG_CREDENTIALS, {"kafka_sasl_password": "another"}),
        (Trouble.WRONG_CREDENTIALS, {"kafka_sasl_username": "nobody"}),
        (Trouble.WRONG_CREDENTIALS, {**token, "kafka_sasl_token_file": tmp_path / "token"}),
        (Trouble.NO_TOKEN, {**token, "kafka_sasl_token_file": tmp_path / "none"}),
        (Trouble.WRONG_MECHANISM, {**at("SASL", "SASL_PLAINTEXT"), "kafka_sasl_mechanism": "PLAIN"}),
        (Trouble.WRONG_AUTHORITY, {"kafka_ssl_ca_file": None}),
        (Trouble.WRONG_HOST_NAME, at("ELSEWHERE", "SSL")),
        (Trouble.CLIENT_CERTIFICATE, at("MTLS", "SSL")),
        (Trouble.SPEAKS_PLAINTEXT, at("OPEN", "SSL")),
        (Trouble.SPEAKS_PLAINTEXT, at("SASL", "SASL_SSL")),
        (Trouble.SPEAKS_TLS, at("TLS", "PLAINTEXT")),
        (Trouble.SPEAKS_TLS, {"kafka_security_protocol": "SASL_PLAINTEXT"}),
        (Trouble.WANTS_SASL, at("SASL", "PLAINTEXT")),
        (Trouble.WANTS_SASL, {"kafka_security_protocol": "SSL"}),
        (Trouble.NO_SASL, at("OPEN", "SASL_PLAINTEXT")),
        (Trouble.UNREACHABLE, {"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"}),
        (Trouble.UNREACHABLE, {"kafka_bootstrap_servers": "no-such-host.invalid:9092"}),
    ]
    for expected, fields in cases:
        settings = secured.settings(**fields)
        found = asyncio.run(diagnose(settings.client_options()))
        assert found.trouble is expected, (found, fields)
        assert settings.kafka_sasl_password.get_secret_value() not in found.sentence
        if expected is not Trouble.ANSWERS:
            with pytest.raises(BrokersUnusableError, match=r"^Kafka at (127|no-such)"):
                asyncio.run(seen(settings))


def test_a_broker_that_accepts_and_says_nothing_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        found = asyncio.run(diagnose(KafkaSettings(kafka_bootstrap_servers=address).client_options()))
    assert found.trouble is Trouble.SILENT


@pytest.mark.parametrize("command", ["topics create", "replay"])
def test_a_command_says_it_in_one_line(secured: SecuredBroker, command: str) -> None:
    environment = {**secured.user("alice"), "KAFKA_SASL_PASSWORD": "Sesame1", "ENVIRONMENT": "test"}
    run = CliRunner().invoke(cli, command.split(), env=environment)
    assert run.exit_code in (1, 2)
    assert "the broker refuses the user or the password" in run.stderr
    assert "Sesame1" not in run.output
    assert len(run.stderr.splitlines()) == 1


def test_a_process_that_waits_says_why(secured: SecuredBroker, tmp_path: Path) -> None:
    process = start(
        "command-side",
        {**secured.user("alice"), "KAFKA_SASL_PASSWORD": "Sesame1", "STARTUP_TIMEOUT_MS": "0"},
        tmp_path / "log",
        ready=False,
    )
    wait_until(lambda: process.popen.poll() is not None, PATIENCE, "the command side to give up")
    assert "the broker refuses the user or the password" in process.log_text()
    assert "Traceback" not in process.log_text()
    assert "Sesame1" not in process.log_text()


@contextmanager
def token_endpoint(answers: list[tuple[int, bytes]], asked: list[bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_token_is_fetched_kept_and_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    grants = [(200, b'{"access_token":"first","expires_in":100}'), (500, b"Sesame1"), (200, b'{"access_token":"next"}')]
    now = [1_000.0]
    monkeypatch.setattr("brokers.fetched_token.time.monotonic", lambda: now[0])
    with token_endpoint(grants, asked) as url:
        provider = FetchedToken(TokenEndpoint(url, "client", "secret", "kafka"))
        assert [asyncio.run(provider.token()) for _ in range(3)] == ["first"] * 3
        assert asked == [b"grant_type=client_credentials&scope=kafka"]
        now[0] += 90
        assert asyncio.run(provider.token()) == "first"  # the endpoint is ill, and the token still valid
        assert asyncio.run(provider.token()) == "next"
        grants[2] = (401, b"Sesame1")
        now[0] += 1_000
        with pytest.raises(TokenUnavailableError, match="answered 401") as error:
            asyncio.run(provider.token())
        assert "Sesame1" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "KAFKA_SASL_USERNAME is not set, and PLAIN needs it"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_ca_file": "none.pem"}, "none.pem cannot be read"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_key_file": "k.pem"}, "not KAFKA_SSL_CERTIFICATE_FILE"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER"}, "needs either"),
        (
            {
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "OAUTHBEARER",
                "kafka_sasl_token_url": "http://login.example.org/token",
            },
            "does not begin with https://",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KafkaSettings(**fields)


def test_production_refuses_what_others_can_read_unless_it_is_said_aloud() -> None:
    def said(**fields: Any) -> str:
        return " ".join(KafkaSettings(**fields).problems_in_production())

    assert said().startswith("KAFKA_SECURITY_PROTOCOL: PLAINTEXT sends every event in the clear.")
    plain = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_username": "u",
        "kafka_sasl_password": "Sesame1",
    }
    assert "SASL_PLAINTEXT sends every event and the password in the clear" in said(**plain)
    assert "Sesame1" not in said(**plain)
    assert said(**plain, kafka_allow_plaintext=True) == ""
    assert said(kafka_security_protocol="SSL") == ""


def test_a_certificate_that_is_replaced_is_used_by_the_next_client(secured: SecuredBroker, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(secured.certificates.authority.read_bytes())
    first = client_context(TlsFiles(authority))
    assert client_context(TlsFiles(authority)) is first
    authority.write_bytes(secured.certificates.authority.read_bytes() + b"\n")
    second = client_context(TlsFiles(authority))
    assert second is not first
    assert renewed(first) is second  # for the next connection of the client that was made with the first
    authority.write_bytes(b"half of a file")
    assert renewed(first) is first
    assert renewed(None) is None
