"""Faults planted into a running stack, and the remedies that the doctor shows, as an operator would follow them.

Each fault is a context manager: it plants the fault, and its body calls what it yields to follow the remedy.
"""

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from operations.settings import MigrateSettings
from operations.setup import migrate
from tests.conftest import Footfall
from tests.drivers.rebuilding import dlq, rebuild
from tests.patience import PATIENCE
from tests.processes import Process, free_port
from tests.producing import Raw, an_event, produce, record_of, some_records, sql
from tests.servers import Servers, at_database

Follow = Callable[[str], None]  # follows the remedy, of which it is given the words


@dataclass
class World:
    """The stack under examination, and how the doctor is told to look at it."""

    footfall: Footfall
    start: Callable[[bool], Process]  # whether it is waited for until it owns every partition
    home: Path
    projector: Process
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def undo(self) -> None:
        """Nothing of an earlier fault misleads the doctor; what it did to the servers stays."""
        patch.stopall()
        self.environment.clear()
        self.url = ""

    def restart(self) -> None:
        """A new projector takes the place of the old one."""
        self.projector.kill()
        self.projector = self.start(True)


@dataclass(frozen=True)
class Fault:
    """What is planted, and what the doctor, the metrics and the log say of it.

    `alert`: "" if no alert is about it. `logged`: words in the projector's log; "" if it has none.
    """

    name: str
    plant: Callable[[World], AbstractContextManager[Follow]]
    check: str
    says: str
    remedy: str
    alert: str = ""
    logged: str = ""


def ask(world: World, statement: str) -> Any:
    return sql(world.footfall.servers, statement)


class Session:
    """One session of PostgreSQL that stays open between its statements."""

    def __init__(self, servers: Servers) -> None:
        self._loop = asyncio.new_event_loop()
        named = {"application_name": "a-report"}
        self._connection = self._loop.run_until_complete(asyncpg.connect(servers.admin_url, server_settings=named))

    def run(self, statement: str) -> None:
        self._loop.run_until_complete(self._connection.execute(statement))

    def close(self) -> None:
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # the remedy has ended it
            self._connection.terminate()
        await asyncio.sleep(0.1)  # the transport is closed in a later turn of the loop


@contextmanager
def broker_away(world: World) -> Iterator[Follow]:
    world.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{free_port()}"
    yield lambda _words: world.environment.clear()


@contextmanager
def postgresql_away(world: World) -> Iterator[Follow]:
    parts = urlsplit(world.footfall.servers.admin_url)
    world.url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{free_port()}").geturl()
    yield lambda _words: setattr(world, "url", "")


@contextmanager
def wrong_password(world: World) -> Iterator[Follow]:
    parts = urlsplit(world.footfall.servers.admin_url)
    world.url = parts._replace(netloc=f"{parts.username}:wrong-one@{parts.netloc.rpartition('@')[2]}").geturl()
    yield lambda _words: setattr(world, "url", "")


@contextmanager
def read_only(world: World) -> Iterator[Follow]:
    name, session = urlsplit(world.footfall.servers.admin_url).path[1:], Session(world.footfall.servers)
    world.projector.kill()
    session.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    world.projector = world.start(False)

    def follow(words: str) -> None:  # the session is older than the setting, as one with SET would be
        assert "ALTER DATABASE .. RESET" in words
        session.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    with closing(session):
        yield follow


@contextmanager
def no_connections(world: World) -> Iterator[Follow]:
    name, session = urlsplit(world.footfall.servers.admin_url).path[1:], Session(world.footfall.servers)
    session.run(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    with closing(session):
        yield lambda _words: session.run(f"ALTER DATABASE {name} CONNECTION LIMIT -1")


@contextmanager
def a_lock(world: World) -> Iterator[Follow]:
    session = Session(world.footfall.servers)
    session.run("BEGIN; LOCK TABLE read_g1.checkpoints IN SHARE ROW EXCLUSIVE MODE")
    produce(world.footfall, some_records(20))

    def follow(words: str) -> None:
        (pid,) = set(re.findall(r"session (\d+) \(", words))
        ask(world, f"SELECT pg_terminate_backend({pid})")

    with closing(session):
        yield follow


@contextmanager
def a_poisoned_user(world: World) -> Iterator[Follow]:
    produce(world.footfall, [Raw(b"poison", b"user-1", 2), record_of(an_event("user-1"), 2)])
    yield lambda _words: dlq(world.footfall, "discard", "--partition", "2", "--yes")


@contextmanager
def a_defect(world: World) -> Iterator[Follow]:
    ask(world, "ALTER TABLE read_g1.user_activity ADD CONSTRAINT planted CHECK (user_id = '') NOT VALID")
    produce(world.footfall, some_records(40))

    def follow(_words: str) -> None:  # docs/stops.md#defect: repair the schema
        ask(world, "ALTER TABLE read_g1.user_activity DROP CONSTRAINT planted")

    yield follow


@contextmanager
def frozen(world: World) -> Iterator[Follow]:
    world.projector.popen.send_signal(signal.SIGSTOP)
    produce(world.footfall, some_records(20))

    def follow(_words: str) -> None:  # start another
        world.projector.kill()
        world.projector = world.start(True)

    yield follow


@contextmanager
def two_catalogues(world: World) -> Iterator[Follow]:
    ask(world, "UPDATE read_g1.checkpoints SET event_types = 'another' WHERE partition = 1")
    yield lambda _words: world.restart()


async def _configure(footfall: Footfall, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=footfall.servers.kafka)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, footfall.topic, configs)])
    await admin.close()


@contextmanager
def a_short_retention(world: World) -> Iterator[Follow]:
    asyncio.run(_configure(world.footfall, **{"retention.ms": "3600000"}))

    def follow(words: str) -> None:
        assert words.endswith("--add-config retention.ms=-1")
        asyncio.run(_configure(world.footfall, **{"retention.ms": "-1"}))

    yield follow


@contextmanager
def a_missing_migration(world: World) -> Iterator[Follow]:
    name = f"{urlsplit(world.footfall.servers.admin_url).path[1:]}_old"
    ask(world, f"CREATE DATABASE {name}")
    world.url = at_database(world.footfall.servers.admin_url, name)
    settings = MigrateSettings(database_url=world.url)  # type: ignore[arg-type]  # pydantic makes it a secret
    migrate(settings, "0013")

    def follow(words: str) -> None:
        assert "footfall migrate" in words
        migrate(settings)
        world.url = ""

    yield follow


@contextmanager
def a_wrong_clock(world: World) -> Iterator[Follow]:
    real = time.time
    clock = patch.object(time, "time", lambda: real() + 600)
    clock.start()
    yield lambda _words: clock.stop()


@contextmanager
def an_expired_certificate(world: World) -> Iterator[Follow]:
    path = world.home / "authority.pem"
    path.write_bytes(a_certificate(datetime.now(UTC) - timedelta(days=1)))
    world.environment["KAFKA_SSL_CA_FILE"] = str(path)

    def follow(words: str) -> None:
        assert "replace the file" in words
        path.write_bytes(a_certificate(datetime.now(UTC) + timedelta(days=90)))

    yield follow
    world.environment.clear()


def a_certificate(end: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "planted")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(end - timedelta(days=100))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@contextmanager
def a_rebuild_without_projector(world: World) -> Iterator[Follow]:
    world.projector.kill()
    rebuild(world.footfall, "start")

    def follow(words: str) -> None:
        assert "Start a projector" in words
        world.projector = world.start(True)

    yield follow
    rebuild(world.footfall, "cancel")


def faults() -> Mapping[str, Fault]:
    """All of them, by name, in an order in which each leaves the stack well for the next."""
    return {
        each.name: each
        for each in (
            Fault("broker away", broker_away, "Kafka", "127.0.0.1:", "that a broker runs", "FootfallCircuitOpen"),
            Fault(
                "PostgreSQL away", postgresql_away, "PostgreSQL", "onnect", "that the server runs", "FootfallObstacle"
            ),
            Fault("wrong password", wrong_password, "PostgreSQL", "InvalidPassword", "Check DATABASE_URL"),
            Fault("clock 10 minutes off", a_wrong_clock, "clock", "600.0 s", "NTP", "FootfallClockSkew"),
            Fault("certificate expired", an_expired_certificate, "certificates", "expired", "Renew it"),
            Fault("migration missing", a_missing_migration, "schema", "0013", "footfall migrate"),
            Fault("out of connections", no_connections, "PostgreSQL", "TooManyConnections", "takes connections"),
            Fault(
                "poisoned user", a_poisoned_user, "dead letters", "2 events", "redrive or discard", "", "record_parked"
            ),
            Fault(
                "retention shorter than lag", a_short_retention, "topic", "retention.ms is 3600000", "retention.ms=-1"
            ),
            Fault("two catalogues", two_catalogues, "event types", "another", "", "FootfallCataloguesDiffer"),
            Fault("lock held on the table", a_lock, "projecting", "'a-report'", "", "FootfallStuck"),
            Fault(
                "PostgreSQL read-only",
                read_only,
                "writing",
                "default_transaction_read_only",
                "RESET",
                "FootfallObstacle",
            ),
            Fault(
                "defect in a projection",
                a_defect,
                "projecting",
                "defect",
                "",
                "FootfallPartitionStopped",
                "batch_failed",
            ),
            Fault("projector frozen", frozen, "projecting", "no projector is assigned", "", "FootfallDown"),
            Fault(
                "rebuild whose projector died", a_rebuild_without_projector, "rebuild", "no projector works", "Start"
            ),
        )
    }
