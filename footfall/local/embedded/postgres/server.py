"""The PostgreSQL server process: its configuration, its start, when it is ready."""

import os
import signal
from pathlib import Path

import psutil

from footfall.local.embedded.child_process import Child, spawn_child, wait_until_ready
from footfall.local.embedded.paths import rotate_log
from footfall.local.embedded.ports import HOST
from footfall.local.embedded.postgres.cluster import BIN, PostgresCluster

READY_PATIENCE_SECONDS = 240.0  # recovery after a kill replays up to max_wal_size
STOP_GRACE_SECONDS = 20.0
PID_FILE = "postmaster.pid"
STATUS_LINE = 7  # of that file, counted from 0


def start_server(cluster: PostgresCluster, port: int, durable: bool) -> Child:
    """Start the server; it is not ready yet."""
    log_path = cluster.home / "server.log"
    rotate_log(log_path)
    configuration = write_configuration(cluster, port, durable)
    forget_reused_pid(cluster.data / PID_FILE)
    process = spawn_child(
        [str(BIN / "postgres"), "-D", str(cluster.data), "-c", f"config_file={configuration}"],
        death_signal=signal.SIGQUIT,  # an immediate shutdown, which also ends the server's own children
        env={"LC_ALL": "C", "PATH": os.defpath},
        log_path=log_path,
        user=cluster.user,
        cwd=cluster.home,
    )
    return Child("PostgreSQL", process, log_path, signal.SIGINT, STOP_GRACE_SECONDS)


def forget_reused_pid(pid_file: Path) -> None:
    """Remove the pid file of a killed server if that pid is another program's by now (after a container's restart).

    PostgreSQL would take that program for its former self and refuse to start. In every other case the file stays:
    it also protects the data from backends that have outlived their server.
    """
    try:
        name = psutil.Process(int(pid_file.read_text().split()[0])).name()
    except (FileNotFoundError, IndexError, ValueError, psutil.Error):
        return
    if name != "postgres":
        pid_file.unlink()


def wait_for_server(cluster: PostgresCluster, child: Child) -> None:
    """Return when the server accepts connections. Raises StackError with the end of its log otherwise."""
    wait_until_ready(child, lambda: is_ready(cluster.data, child.process.pid), READY_PATIENCE_SECONDS)


def is_ready(data: Path, pid: int) -> bool:
    """The server writes its pid and its status into postmaster.pid (PostgreSQL's own pg_ctl reads it the same way)."""
    try:
        lines = (data / PID_FILE).read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > STATUS_LINE and int(lines[0]) == pid and lines[STATUS_LINE].strip() == "ready"


def write_configuration(cluster: PostgresCluster, port: int, durable: bool) -> Path:
    """Written anew at each start, beside the data directory: what initdb made there stays as it was."""
    access = cluster.home / "pg_hba.conf"
    access.write_text(f"host all all {HOST}/32 scram-sha-256\n")
    configuration = cluster.home / "postgresql.conf"
    configuration.write_text(settings(access, port) + (DURABLE if durable else DISPOSABLE))
    for path in (access, configuration):
        path.chmod(0o644)  # as root, another user reads them
    return configuration


def settings(access: Path, port: int) -> str:
    quoted = str(access).replace("'", "''")
    return f"""\
# Written by footfall at every start. Changes here are lost.
listen_addresses = '{HOST}'
port = {port}
unix_socket_directories = ''  # TCP with a password is the only way in; a socket's path could be too long
hba_file = '{quoted}'
password_encryption = 'scram-sha-256'
max_connections = 100
wal_level = replica
max_wal_size = '2GB'
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, ymd'
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%u '
log_checkpoints = off
"""


DURABLE = """\
shared_buffers = '256MB'
fsync = on
synchronous_commit = on
"""

# For tests: what a crash of the machine would lose, nobody misses.
DISPOSABLE = """\
shared_buffers = '128MB'
fsync = off
synchronous_commit = off
full_page_writes = off
"""
