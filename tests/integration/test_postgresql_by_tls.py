"""PostgreSQL by TLS only: every process and command checks the server, and comes with a certificate where it must."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from footfall.local.embedded.certificates import HOSTS, Certificates
from read_model.connecting.database_url import parse, plaintext_by_default
from tests.drivers.every_command import footfall, urls
from tests.postgres_tls import TlsFront, postgres_tls
from tests.processes import start
from tests.servers import Servers

COMMANDS = ("migrate", "status", "dlq list", "gaps list", "rebuild status")


@dataclass
class Secured:
    front: TlsFront
    servers: Servers
    certificates: Certificates

    def url(self, base: str, **parameters: str) -> str:
        """The URL of a role at the port that speaks TLS only."""
        client = str(self.certificates.file("client"))
        known = {
            "sslmode": "verify-full",
            "sslrootcert": str(self.certificates.authority),
            "sslcert": client,
            "sslkey": client,
        }
        at = urlsplit(base)
        there = at._replace(netloc=at.netloc.replace(f":{at.port}", f":{self.front.port}"))
        return f"{there.geturl()}?{urlencode({**known, **parameters})}"


@pytest.fixture(scope="module")
def secured(new_database: Callable[[], Servers], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    parties = {"server": HOSTS, "client": HOSTS}
    certificates = Certificates(tmp_path_factory.mktemp("postgres-tls") / "certificates", parties)
    foreign = Certificates(tmp_path_factory.mktemp("foreign") / "certificates", parties)
    (certificates.directory / "foreign.pem").write_bytes(foreign.authority.read_bytes())
    servers = new_database()
    target = urlsplit(servers.admin_url).port or 5432
    with postgres_tls(target, certificates.file("server"), certificates.authority) as front:
        yield Secured(front, servers, certificates)


def test_every_command_checks_the_server_and_shows_its_certificate(secured: Secured) -> None:
    owner = secured.url(secured.servers.admin_url)
    for command in COMMANDS:
        before = secured.front.connections
        run = footfall(command, **urls(owner), KAFKA_BOOTSTRAP_SERVERS=secured.servers.kafka, KAFKA_TOPIC="none")
        assert "cannot be used" not in run.output, (command, run.output)
        assert "unexpected" not in run.output, (command, run.output)
        assert secured.front.connections > before, command
    assert footfall("migrate", **urls(owner)).exit_code == 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sslmode": "disable"}, "no pg_hba.conf entry"),
        ({"sslrootcert": "foreign"}, "certificate verify failed"),
        ({"sslcert": "", "sslkey": ""}, ""),
    ],
)
def test_what_is_wrong_is_one_sentence(secured: Secured, parameters: dict[str, str], said: str) -> None:
    given = dict(parameters)
    if given.get("sslrootcert"):
        given["sslrootcert"] = str(secured.certificates.directory / "foreign.pem")
    url = secured.url(secured.servers.admin_url, **given)
    if "sslcert" in given:
        url = url.replace("&sslcert=&sslkey=", "")
    for command in ("migrate", "status"):
        run = footfall(command, **urls(url), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
        assert run.exit_code in (1, 2)
        assert "PostgreSQL cannot be used" in run.stderr, run.output
        assert said in run.stderr
        assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("process", ["query-side", "projector"])
def test_a_process_comes_by_tls(secured: Secured, new_topic: Callable[..., str], tmp_path: Path, process: str) -> None:
    base = secured.servers.query_url if process == "query-side" else secured.servers.projector_url
    before, topic = secured.front.connections, new_topic(1)
    environment = {"KAFKA_BOOTSTRAP_SERVERS": secured.servers.kafka, "KAFKA_TOPIC": topic, "KAFKA_GROUP_ID": topic}
    running = start(process, {**environment, "DATABASE_URL": secured.url(base)}, tmp_path / "log")
    running.kill()
    assert secured.front.connections > before


def test_production_wants_the_url_to_say_how_it_travels() -> None:
    def readable(url: str) -> bool:
        return plaintext_by_default(parse(url))

    elsewhere = "postgresql://user:password@db.example.org/footfall"
    assert readable(elsewhere)
    assert readable(f"{elsewhere}?sslmode=prefer")
    assert not readable(f"{elsewhere}?sslmode=verify-full")
    assert not readable(f"{elsewhere}?sslmode=disable")  # said aloud
    assert not readable("postgresql://user:password@127.0.0.1:5432,localhost/footfall")
    assert readable("postgresql://user:password@127.0.0.1,db.example.org/footfall")
    assert not readable("postgresql://user:password@/footfall?host=/run/postgresql")
    assert not readable("postgresql://user@%2Frun%2Fpostgresql/footfall")


def test_a_command_in_production_refuses_a_url_that_does_not_say_it() -> None:
    url = "postgresql://user:Sesame1@db.example.org/footfall"
    run = footfall("migrate", DATABASE_URL=url, ENVIRONMENT="production")
    assert run.exit_code == 1
    assert "DATABASE_URL: rows and the password may travel in the clear" in run.stderr
    assert "Sesame1" not in run.output
