"""pgbouncer before PostgreSQL: in transaction mode it is refused at start, in session mode everything works."""

import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from footfall.local.embedded import spawn_child
from read_model.connecting.database_url import parse
from read_model.connecting.pool import closing, open_pool
from read_model.connecting.pooler import REFUSED, SharedSessionsError, detect_sessions
from tests.conftest import Footfall
from tests.foreign_clients import needed, pgbouncer
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import run_to_end, start, wait_until
from tests.producing import produce, some_records, wait_until_processed
from tests.servers import Servers


@pytest.fixture(autouse=True)
def _pgbouncer() -> None:
    needed("pgbouncer")


def through(url: str, port: int) -> str:
    """The same login and database, by way of the pooler."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()


@contextmanager
def pooled(servers: Servers, mode: str, directory: Path, *more: str) -> Iterator[int]:
    """A pgbouncer in this mode; its port."""
    directory.mkdir()
    port, server = free_port(), urlsplit(servers.admin_url)
    urls = map(urlsplit, (servers.admin_url, servers.projector_url, servers.query_url))
    users = directory / "users.txt"
    users.write_text("".join(f'"{url.username}" "{url.password}"\n' for url in urls))
    lines = [
        "[databases]",
        f"* = host={server.hostname} port={server.port}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {users}",
        f"pool_mode = {mode}",
        *more,
    ]
    configuration = directory / "pgbouncer.ini"
    configuration.write_text("\n".join(lines) + "\n")
    popen = spawn_child(
        [pgbouncer() or "", str(configuration)],
        death_signal=signal.SIGTERM,
        log_path=directory / "log",
        user=somebody(directory),
    )
    try:
        wait_until(lambda: answers(port), 60, f"pgbouncer; its log: {directory / 'log'}")
        yield port
    finally:
        popen.terminate()
        popen.wait(PATIENCE)


def somebody(directory: Path) -> str | None:
    """pgbouncer does not run as root; who does run it may read its files."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    for path in [directory, *directory.iterdir()]:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for parent in directory.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    return nobody.pw_name


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    port = [] if command == "migrate" else ["--port", str(free_port())]
    return run_to_end(command, *port, environment=environment)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("balance", ["server_round_robin = 0", "server_round_robin = 1"])
async def test_shared_sessions_are_noticed(footfall: Footfall, tmp_path: Path, mode: str, balance: str) -> None:
    servers = footfall.servers
    assert await detect_sessions(parse(servers.query_url).driver()) == "direct"
    with pooled(servers, mode, tmp_path / "pooler", balance) as port:
        url = parse(through(servers.query_url, port)).driver()
        busy = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(5)]
        assert await detect_sessions(url) == "shared"
        with pytest.raises(SharedSessionsError):
            _ = await open_pool(url, application="test", min_size=1, max_size=1)
        for one in busy:
            one.terminate()


def test_each_process_refuses_transaction_mode_with_the_reason(footfall: Footfall, tmp_path: Path) -> None:
    servers = footfall.servers
    with pooled(servers, "transaction", tmp_path / "pooler") as port:
        for command, url in (
            ("migrate", servers.admin_url),
            ("projector", servers.projector_url),
            ("query-side", servers.query_url),
        ):
            ended = run(command, **footfall.environment(), DATABASE_URL=through(url, port))
            assert (ended.returncode, ended.stderr) == (1, f"footfall: {REFUSED}\n"), command


@pytest.mark.parametrize("size", [1, 20])
async def test_session_mode_is_told_from_it_however_small_the_pool(
    footfall: Footfall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("read_model.connecting.pooler.CHECK_TIMEOUT", 2.0)
    with pooled(footfall.servers, "session", tmp_path / "pooler", f"default_pool_size = {size}") as port:
        assert await detect_sessions(parse(through(footfall.servers.query_url, port)).driver()) == "own"


async def test_settings_hold_in_session_mode(footfall: Footfall, tmp_path: Path) -> None:
    with pooled(footfall.servers, "session", tmp_path / "pooler") as port:
        url = through(footfall.servers.query_url, port)
        for stateless in (False, True):
            pool = await open_pool(
                url,
                application="test",
                min_size=1,
                max_size=1,
                server_settings={"enable_seqscan": "off", "default_transaction_read_only": "on"},
                stateless=stateless,
            )
            async with closing(pool):
                for _ in range(3):  # also after the connection was given back
                    assert await pool.fetchval("SHOW enable_seqscan") == "off"
                    assert await pool.fetchval("SHOW transaction_read_only") == "on"


def test_everything_works_in_session_mode(footfall: Footfall, tmp_path: Path) -> None:
    servers = footfall.servers
    with pooled(servers, "session", tmp_path / "pooler", "default_pool_size = 40") as port:
        migrated = run("migrate", DATABASE_URL=through(servers.admin_url, port))
        assert migrated.returncode == 0, migrated.stderr
        processes = [
            start(command, {**footfall.environment(), "DATABASE_URL": through(url, port)}, tmp_path / command)
            for command, url in (("projector", servers.projector_url), ("query-side", servers.query_url))
        ]
        try:
            ((partition, offset), *_) = produce(footfall, some_records(200))
            wait_until_processed(footfall, 200, 60)
            position = {"footfall-position": f"{partition}-{offset}"}
            answer = httpx.get(f"{processes[1].url}/events/processed", headers=position, timeout=PATIENCE)
            assert (answer.status_code, len(answer.json())) == (200, 200)
        finally:
            for process in processes:
                process.kill()
