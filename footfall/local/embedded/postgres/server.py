"""Configures and starts the PostgreSQL server, and waits until it is ready."""

import os
import signal
from pathlib import Path

import psutil

from footfall.local.embedded.child_process import Child, spawn_child, wait_until_ready
from footfall.local.embedded.paths import rotate_log
from footfall.local.embedded.ports import HOST
from footfall.local.embedded.postgres.cluster import BIN, PostgresCluster

READY_PATIENCE_SECONDS = 240.0  # after a kill, recovery replays up to max_wal_size
STOP_GRACE_SECONDS = 20.0
PID_FILE = "postmaster.pid"
STATUS_LINE = 7  # of that file, counted from 0


def start_server(cluster: PostgresCluster, port: int, durable: bool) -> Child:
    """Starts the server and returns at once; `wait_for_server` waits until it is ready."""
    log_path = cluster.home / "server.log"
    rotate_log(log_path)
    configuration = write_configuration(cluster, port, durable)
    forget_reused_pid(cluster.data / PID_FILE)
    process = spawn_child(
        [str(BIN / "postgres"), "-D", str(cluster.data), "-c", f"config_file={configuration}"],
        death_signal=signal.SIGQUIT,  # PostgreSQL's immediate shutdown, which also ends the server's children
        env={"LC_ALL": "C", "PATH": os.defpath},
        log_path=log_path,
        user=cluster.user,
        cwd=cluster.home,
    )
    return Child("PostgreSQL", process, log_path, signal.SIGINT, STOP_GRACE_SECONDS)


def forget_reused_pid(pid_file: Path) -> None:
    """Removes the pid file of a killed server if another program has that pid now (after a container's restart).

    PostgreSQL would take that program for a running server and refuse to start. In every other case the file stays: it
    also protects the data from backends that still run after their server was killed.
    """
    try:
        name = psutil.Process(int(pid_file.read_text().split()[0])).name()
    except (FileNotFoundError, IndexError, ValueError, psutil.Error):
        return
    if name != "postgres":
        pid_file.unlink()


def wait_for_server(cluster: PostgresCluster, child: Child) -> None:
    """Waits until the server accepts connections. Raises StackError with the end of its log if it does not."""
    wait_until_ready(child, lambda: is_ready(cluster.data, child.process.pid), READY_PATIENCE_SECONDS)


def is_ready(data: Path, pid: int) -> bool:
    """Whether postmaster.pid holds this pid and the status `ready`, as PostgreSQL's own pg_ctl checks."""
    try:
        lines = (data / PID_FILE).read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > STATUS_LINE and int(lines[0]) == pid and lines[STATUS_LINE].strip() == "ready"


def write_configuration(cluster: PostgresCluster, port: int, durable: bool) -> Path:
    """Writes the configuration beside the data directory, and returns its path. initdb's own files stay unchanged."""
    access = cluster.home / "pg_hba.conf"
    access.write_text(f"host all all {HOST}/32 scram-sha-256\n")
    configuration = cluster.home / "postgresql.conf"
    configuration.write_text(settings(access, port) + (DURABLE if durable else DISPOSABLE))
    for path in (access, configuration):
        path.chmod(0o644)  # if this process is root, the server reads them as another user
    return configuration


def settings(access: Path, port: int) -> str:
    quoted = str(access).replace("'", "''")
    return f"""\
# Written by footfall at every start. Changes here are lost.
listen_addresses = '{HOST}'
port = {port}
unix_socket_directories = ''  # only TCP with a password; the path of a socket could be too long
hba_file = '{quoted}'
password_encryption = 'scram-sha-256'
max_connections = 100
wal_level = replica
max_wal_size = '2GB'
# The write-ahead log holds rows that were deleted. Its segments are deleted after use, and none is in use for long.
wal_recycle = off
archive_timeout = '5min'
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, ymd'
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%u '
log_checkpoints = off
# Details, statements and parameters quote what users did.
log_error_verbosity = 'terse'
log_min_error_statement = 'panic'
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
"""


DURABLE = """\
shared_buffers = '256MB'
fsync = on
synchronous_commit = on
"""

# For tests, whose data may be lost in a crash of the machine.
DISPOSABLE = """\
shared_buffers = '128MB'
fsync = off
synchronous_commit = off
full_page_writes = off
scram_iterations = 1  # both sides of each connection count to it
"""
