"""Faults of PostgreSQL: away, read-only, without connections or room, with locks, another password, an old schema."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
from pydantic import SecretStr

from footfall.local.embedded.postgres.roles import PROJECTOR
from operations.settings import MigrateSettings
from operations.setup import migrate
from tests.drivers.faults.world import Follow, Session, World, ask
from tests.drivers.rebuilding import rebuild
from tests.drivers.small_disk import small_disk
from tests.own_postgres import own_postgres
from tests.processes import wait_until
from tests.producing import produce, some_records
from tests.servers import at_database

FEW = 40  # connections of a PostgreSQL that runs out of them


@contextmanager
def postgresql_away(world: World) -> Iterator[Follow]:
    kafka = world.footfall.servers.kafka
    with own_postgres() as postgres, world.on(postgres.servers(kafka)):
        postgres.stop()

        def follow(words: str) -> None:
            assert "that the server runs" in words
            postgres.start()

        yield follow


@contextmanager
def wrong_password(world: World) -> Iterator[Follow]:
    """The projector's password was changed, and it is restarted with the old one."""
    kafka = world.footfall.servers.kafka
    with own_postgres() as postgres, world.on(postgres.servers(kafka)):
        old = world.footfall.servers
        postgres.run(f"ALTER ROLE {PROJECTOR} PASSWORD 'new-secret'")
        world.restart(waits=False)
        world.url = old.projector_url  # the operator has the same old password

        def follow(words: str) -> None:
            assert "the password in DATABASE_URL" in words
            parts = urlsplit(old.projector_url)
            new = parts._replace(netloc=f"{PROJECTOR}:new-secret@{parts.netloc.rpartition('@')[2]}").geturl()
            world.footfall.servers, world.url = replace(old, projector_url=new), ""
            world.restart()

        yield follow
        world.url = ""


@contextmanager
def read_only(world: World) -> Iterator[Follow]:
    name, session = urlsplit(world.footfall.servers.admin_url).path[1:], Session(world.footfall.servers)
    session.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    world.restart(waits=False)

    def follow(words: str) -> None:  # the session is older than the setting, as one with SET would be
        assert "ALTER DATABASE .. RESET" in words
        session.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    with closing(session):
        yield follow


class Crowd:
    """Sessions of somebody else, which do nothing."""

    def __init__(self, url: str) -> None:
        self._url, self._loop = url, asyncio.new_event_loop()
        self._sessions: list[asyncpg.Connection] = []

    def __enter__(self) -> "Crowd":
        return self

    def come(self, most: int) -> None:
        """So many come, or as many as PostgreSQL lets in."""
        with suppress(asyncpg.TooManyConnectionsError):
            while len(self._sessions) < most:
                self._sessions.append(self._loop.run_until_complete(asyncpg.connect(self._url)))

    def go(self) -> None:
        """All end."""
        for session in self._sessions:
            self._loop.run_until_complete(session.close())
        self._sessions.clear()

    def __exit__(self, *_: object) -> None:
        self.go()
        self._loop.close()


@contextmanager
def _crowded(world: World, most: int, remedy: str) -> Iterator[Follow]:
    kafka = world.footfall.servers.kafka
    with (
        own_postgres(max_connections=str(FEW)) as postgres,
        world.on(postgres.servers(kafka)),
        Crowd(world.footfall.servers.admin_url) as crowd,
    ):
        crowd.come(most)

        def follow(words: str) -> None:
            assert remedy in words
            crowd.go()

        yield follow


@contextmanager
def no_connections(world: World) -> Iterator[Follow]:
    with _crowded(world, FEW, "End idle sessions") as follow:
        yield follow


@contextmanager
def few_connections(world: World) -> Iterator[Follow]:
    with _crowded(world, FEW - 15, "end idle sessions") as follow:
        yield follow


@contextmanager
def disk_full(world: World) -> Iterator[Follow]:
    kafka = world.footfall.servers.kafka
    with small_disk() as disk, own_postgres(within=disk.path) as postgres, world.on(postgres.servers(kafka)):
        disk.fill()
        produce(world.footfall, some_records(20))
        wait_until(lambda: "DiskFullError" in world.projector.log_text(), 30, "a batch that finds no room")

        def follow(words: str) -> None:
            assert "Extend the disk" in words
            disk.extend()

        yield follow


@contextmanager
def a_lock(world: World) -> Iterator[Follow]:
    with _locked(world, "read_g1") as follow:
        produce(world.footfall, some_records(20))
        yield follow


@contextmanager
def a_lock_on_a_rebuild(world: World) -> Iterator[Follow]:
    world.projector.kill()
    produce(world.footfall, some_records(20))
    rebuild(world.footfall, "start")
    with _locked(world, "read_g2") as follow:
        world.projector = world.start()
        yield follow
    rebuild(world.footfall, "cancel")


@contextmanager
def _locked(world: World, generation: str) -> Iterator[Follow]:
    session = Session(world.footfall.servers)
    session.run(f"BEGIN; LOCK TABLE {generation}.checkpoints IN SHARE ROW EXCLUSIVE MODE")

    def follow(words: str) -> None:
        (pid,) = set(re.findall(r"session (\d+) \(", words))
        ask(world, f"SELECT pg_terminate_backend({pid})")

    with closing(session):
        yield follow


@contextmanager
def a_missing_migration(world: World) -> Iterator[Follow]:
    """Processes of this version were started before `footfall migrate`."""
    servers = world.footfall.servers
    name = f"{urlsplit(servers.admin_url).path[1:]}_old"
    ask(world, f"CREATE DATABASE {name}")
    settings = MigrateSettings(database_url=SecretStr(at_database(servers.admin_url, name)))
    migrate(settings, "0013")

    def follow(words: str) -> None:
        assert "footfall migrate" in words
        migrate(settings)

    with world.on(servers.with_database(name), waits=False):
        yield follow
    ask(world, f"DROP DATABASE {name} WITH (FORCE)")
