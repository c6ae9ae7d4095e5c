"""A standby of a test's own PostgreSQL: it follows by streaming replication, falls behind, and takes over."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from footfall.local.embedded.postgres.cluster import BIN, PostgresCluster, give
from footfall.local.embedded.postgres.roles import superuser_environment
from tests.own_postgres import PASSWORDS, OwnPostgres
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until


def copy_of(port: int, standby: PostgresCluster, directory: Path) -> None:
    """Makes the data of a standby, which follows the server on this port. `directory`: the server's user reaches it."""
    standby.data.mkdir(mode=0o700)
    give(standby.data, standby.user)
    copied = subprocess.run(
        [str(BIN / "pg_basebackup"), "--pgdata", str(standby.data), "--write-recovery-conf", "--checkpoint=fast"],
        env={**superuser_environment(port, PASSWORDS), "PATH": os.defpath, "HOME": str(standby.home)},
        user=standby.user,
        group=standby.user,
        cwd=directory,
        check=False,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
    )
    assert copied.returncode == 0, copied.stderr


@contextmanager
def standby_of(primary: OwnPostgres, directory: Path) -> Iterator[OwnPostgres]:
    """A standby that follows asynchronously, for the body. `directory`: the server's user can reach it."""
    home = directory / "standby"
    home.mkdir(mode=0o755)
    standby = OwnPostgres(PostgresCluster(home, primary.cluster.user), free_port())
    with (primary.cluster.home / "pg_hba.conf").open("a") as access:
        access.write("host replication all 127.0.0.1/32 scram-sha-256\n")
    primary.run("SELECT pg_reload_conf()")
    copy_of(primary.port, standby.cluster, directory)
    standby.start()
    try:
        yield standby
    finally:
        standby.stop()


def wait_until_followed(primary: OwnPostgres, standby: OwnPostgres) -> None:
    """Until the standby has everything that the primary has committed."""
    written = primary.run("SELECT pg_current_wal_lsn()::text")
    there = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
    wait_until(lambda: standby.run(there), PATIENCE, "the standby to follow")
