"""Faults that need nothing but the servers that all tests share."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from urllib.parse import urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from operations.settings import MigrateSettings
from operations.setup import migrate
from tests.conftest import Footfall
from tests.drivers.faults.world import Follow, Session, World, ask
from tests.drivers.rebuilding import dlq, rebuild
from tests.ports import free_port
from tests.producing import Raw, an_event, produce, record_of, some_records
from tests.servers import at_database


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
    produce(world.footfall, some_records(20))  # a rebuild of nothing has read everything
    rebuild(world.footfall, "start")

    def follow(words: str) -> None:
        assert "Start a projector" in words
        world.projector = world.start(True)

    yield follow
    rebuild(world.footfall, "cancel")
