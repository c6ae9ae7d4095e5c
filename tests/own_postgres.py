"""A PostgreSQL of a test's own, to configure, kill and fill without harm to other tests."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from pydantic import SecretStr
from rich.console import Console

from footfall.local.embedded.child_process import Child, stop_children
from footfall.local.embedded.postgres.cluster import SUPERUSER, PostgresCluster, open_cluster
from footfall.local.embedded.postgres.roles import OWNER, PROJECTOR, QUERY, Passwords, ensure_roles, role_url
from footfall.local.embedded.postgres.server import start_server, wait_for_server
from operations.settings import MigrateSettings
from operations.setup import migrate
from tests.ports import free_port
from tests.servers import Servers, at_database

PASSWORDS = Passwords("superuser-secret", "owner-secret", "projector-secret", "query-secret")


@dataclass
class OwnPostgres:
    """The server, and what a test does to it."""

    cluster: PostgresCluster
    port: int
    child: Child | None = None

    def servers(self, kafka: str = "") -> Servers:
        """Its URLs, beside a Kafka."""
        logins = ((OWNER, PASSWORDS.owner), (PROJECTOR, PASSWORDS.projector), (QUERY, PASSWORDS.query))
        return Servers(kafka, *(role_url(self.port, role, password) for role, password in logins))

    def superuser_url(self, database: str = "footfall") -> str:
        """Of the role that may do everything."""
        return at_database(role_url(self.port, SUPERUSER, PASSWORDS.superuser), database)

    def start(self) -> None:
        """Starts the server, and returns once it accepts connections."""
        self.child = start_server(self.cluster, self.port, False)
        wait_for_server(self.cluster, self.child)

    def stop(self) -> None:
        """Ends the server, and every session with it."""
        assert self.child is not None
        stop_children([self.child])

    def crash(self) -> None:
        """One backend is killed, as the kernel does when memory is short: PostgreSQL ends all sessions and recovers."""
        assert self.child is not None
        for backend in psutil.Process(self.child.process.pid).children():
            if "idle" in " ".join(backend.cmdline()):
                os.kill(backend.pid, signal.SIGKILL)
                return

    def run(self, *statements: str, url: str = "") -> Any:
        """Runs statements as the superuser (or whom `url` names); returns the last one's first value."""
        return asyncio.run(run(url or self.superuser_url(), *statements))


async def run(url: str, *statements: str) -> Any:
    """Runs statements in one session; returns the last one's first value."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


@contextmanager
def own_postgres(
    *, roles: bool = True, migrated: bool = True, within: Path | None = None, **settings: str
) -> Iterator[OwnPostgres]:
    """A server with these settings for the body, with roles, database and schema. `within`: where its files are."""
    with tempfile.TemporaryDirectory(prefix="footfall-own-", dir=within) as directory:
        home = Path(directory) / "postgres"
        home.mkdir()
        found = OwnPostgres(open_cluster(home, PASSWORDS.superuser, False, Console(stderr=True)), free_port())
        with (found.cluster.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        try:
            found.start()
            if roles:
                ensure_roles(found.port, PASSWORDS)
            if roles and migrated:
                migrate(MigrateSettings(database_url=SecretStr(found.servers().admin_url)))
            yield found
        finally:
            found.stop()
