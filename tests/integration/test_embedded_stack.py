"""The embedded stack on its real servers: it serves, remembers, refuses politely, and leaves nothing running."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import stamina
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console

from footfall.local.embedded import (
    StackAddresses,
    StackError,
    StackOptions,
    announce_front,
    embedded_stack,
    stale_processes,
)
from footfall.local.embedded.child_process import PARENT_DEATH
from footfall.local.embedded.kafka import jars as kafka_jars
from footfall.local.embedded.kafka.broker import KafkaBroker, server_properties
from footfall.local.embedded.kafka.jars import KAFKA_VERSION, ensure_kafka_jars, jars_name, read_pins
from footfall.local.embedded.paths import cache_root, open_state
from footfall.local.embedded.postgres.server import forget_reused_pid
from tests.patience import PATIENCE

REPOSITORY = Path(__file__).parents[2]
QUIET = Console(quiet=True)

# Starts a stack, prints what it is as one JSON line, and holds it until interrupted.
HOLDER = """
import json, signal, sys
from pathlib import Path
from footfall.local.embedded import StackError
from footfall.local.embedded import StackOptions
from footfall.local.embedded import embedded_stack
try:
    with embedded_stack(StackOptions(Path(sys.argv[1]), durable=False)) as addresses:
        names = ("kafka_bootstrap", "query_url", "kafka_pid", "postgres_pid")
        shown = {name: getattr(addresses, name) for name in names}
        print(json.dumps({**shown, "jgo_imported": "jgo" in sys.modules}), flush=True)
        signal.pause()
except KeyboardInterrupt:
    pass
except StackError as error:
    sys.exit(str(error))
"""


@contextmanager
def directory() -> Iterator[Path]:
    """Not pytest's tmp_path: as root it is closed to PostgreSQL's user, and the next pytest run closes it again."""
    with tempfile.TemporaryDirectory(prefix="footfall-test-") as name:
        yield Path(name)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with directory() as root:
        yield root / "state"


@pytest.fixture(scope="module")
def running_state() -> Iterator[Path]:
    with directory() as root:
        yield root / "state"


@pytest.fixture(scope="module")
def stack(running_state: Path) -> Iterator[StackAddresses]:
    with embedded_stack(StackOptions(running_state, durable=False), QUIET) as addresses:
        yield addresses


@pytest.mark.parametrize(("session", "heartbeat"), [(3_000, 1_000), (9_000, 2_000)])
def test_a_broker_has_time_to_be_answered_before_its_session_ends(tmp_path: Path, session: int, heartbeat: int) -> None:
    """Kafka waits for the answer to a heartbeat only until the next one is due."""
    broker = KafkaBroker(tmp_path, tmp_path, 1, 2, session_ms=session)
    lines = server_properties(broker, tmp_path).splitlines()
    assert f"broker.session.timeout.ms={session}" in lines
    assert f"broker.heartbeat.interval.ms={heartbeat}" in lines


def start(state_dir: Path, **ports: Any) -> Any:
    return embedded_stack(StackOptions(state_dir, durable=False, **ports), QUIET)


@contextmanager
def holder(state_dir: Path, **options: Any) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """A process of its own that holds a stack; yields it and what it printed."""
    command = [sys.executable, "-c", HOLDER, str(state_dir)]
    options = {"cwd": "/", "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}, **options}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return children


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, PATIENCE)
    assert alive == []


async def create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def first_record(bootstrap: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id="test", auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(PATIENCE):
        value: bytes | None = (await consumer.getone()).value
        return value


async def execute(url: str, *statements: str) -> Any:
    """Run the statements, each on its own; the last one's first value."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


# --- it serves -------------------------------------------------------------------------------------------------------


def test_a_record_travels_through_kafka(stack: StackAddresses) -> None:
    asyncio.run(create_topic(stack.kafka_bootstrap, "travel"))
    asyncio.run(produce(stack.kafka_bootstrap, "travel", b"hello"))
    assert asyncio.run(first_record(stack.kafka_bootstrap, "travel")) == b"hello"


def test_each_role_may_do_its_part_and_no_more(stack: StackAddresses) -> None:
    asyncio.run(
        execute(
            stack.admin_url,
            "CREATE SCHEMA rooms",
            "CREATE TABLE rooms.visits (name text)",
            "GRANT USAGE ON SCHEMA rooms TO footfall_writer, footfall_reader",
            "GRANT INSERT ON rooms.visits TO footfall_writer",
            "GRANT SELECT ON rooms.visits TO footfall_reader",
        )
    )
    asyncio.run(execute(stack.projector_url, "INSERT INTO rooms.visits VALUES ('ada')"))
    assert asyncio.run(execute(stack.query_url, "SELECT name FROM rooms.visits")) == "ada"
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        asyncio.run(execute(stack.query_url, "CREATE TEMP TABLE scratch ()"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(
            execute(stack.query_url, "SET default_transaction_read_only = off", "INSERT INTO rooms.visits VALUES ('x')")
        )


def test_the_owner_may_hand_out_membership_of_the_groups(stack: StackAddresses) -> None:
    asyncio.run(execute(stack.admin_url, "CREATE ROLE auditor", "GRANT footfall_reader TO auditor"))


def test_only_this_machine_reaches_the_servers(stack: StackAddresses) -> None:
    sockets = [
        connection
        for pid in (stack.kafka_pid, stack.postgres_pid)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(sockets) == 3
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in sockets} == {"127.0.0.1"}


def test_a_password_is_needed_and_kept_private(stack: StackAddresses, running_state: Path) -> None:
    assert stat.S_IMODE((running_state / "secrets.json").stat().st_mode) == 0o600
    assert stack.admin_url not in repr(stack)
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(execute(stack.admin_url.replace("footfall:", "footfall:not-"), "SELECT 1"))


# --- it refuses politely ---------------------------------------------------------------------------------------------


def test_a_second_start_is_told_who_holds_the_state(stack: StackAddresses, running_state: Path) -> None:
    with (
        pytest.raises(StackError, match=rf"held by process {os.getpid()} .*{stack.kafka_bootstrap}"),
        start(running_state),
    ):
        pass
    announce_front(running_state, "http://127.0.0.1:3000")
    with (
        pytest.raises(StackError, match=r"its front is at http://127\.0\.0\.1:3000.*--state-dir"),
        start(running_state),
    ):
        pass


def test_no_child_inherits_the_lock(stack: StackAddresses, running_state: Path) -> None:
    for pid in (stack.kafka_pid, stack.postgres_pid):
        assert str(running_state / "lock") not in {file.path for file in psutil.Process(pid).open_files()}


@pytest.mark.parametrize("which", ["kafka_port", "postgres_port"])
def test_a_port_that_was_asked_for_and_is_taken_is_named(stack: StackAddresses, state_dir: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        message = rf"Port {port}, .* is taken by process {os.getpid()} "
        with pytest.raises(StackError, match=message), start(state_dir, **{which: port}):
            pass


def test_a_jar_is_missing_and_the_network_too(stack: StackAddresses, monkeypatch: pytest.MonkeyPatch) -> None:
    with directory() as cache, one_attempt():
        copy_jars(cache)
        forbid_network(monkeypatch)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        assert ensure_kafka_jars(QUIET) == jars_in_cache()
        jar = jars_in_cache() / f"kafka-clients-{KAFKA_VERSION}.jar"
        whole = jar.read_bytes()
        changed = bytes([whole[0] ^ 1]) + whole[1:]  # of the same size
        another = jars_in_cache() / "another.jar"
        for damage in (lambda: jar.write_bytes(b"half"), lambda: jar.write_bytes(changed), another.touch):
            jar.write_bytes(whole)
            damage()
            with pytest.raises(StackError, match=r"org\.apache\.kafka:kafka_2\.13.*It is needed once"):
                ensure_kafka_jars(QUIET)


def test_an_interrupted_fetch_is_completed_and_only_the_pinned_bytes_are_taken(
    stack: StackAddresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maven Central is played by a server on this machine: it serves the real jars, then one that was changed."""
    with directory() as root, one_attempt(), maven_mirror(root / "mirror") as mirror:
        real_jars = jars_in_cache()
        for pin in read_pins():
            link(real_jars / pin.file_name, root / "mirror" / pin.repository_path)
        monkeypatch.setattr(kafka_jars, "MAVEN_REPOSITORY", mirror)
        monkeypatch.setenv("XDG_CACHE_HOME", str(root))
        half = root / "footfall" / f"{jars_name()}.part" / read_pins()[0].repository_path
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
        assert {jar.name for jar in ensure_kafka_jars(QUIET).iterdir()} == {pin.file_name for pin in read_pins()}
        shutil.rmtree(jars_in_cache())
        changed = root / "mirror" / read_pins()[-1].repository_path
        changed.unlink()
        changed.write_bytes(b"not the pinned one")
        with pytest.raises(StackError, match=rf"{read_pins()[-1].file_name}, as fetched, is not the one"):
            ensure_kafka_jars(QUIET)
        assert not jars_in_cache().exists()


def test_passwords_that_were_lost_are_not_replaced_in_silence(state_dir: Path) -> None:
    (state_dir / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(StackError, match=r"secrets\.json is missing"), start(state_dir):
        pass


# --- it remembers ----------------------------------------------------------------------------------------------------


def test_state_survives_a_failing_body_and_a_restart(stack: StackAddresses, state_dir: Path) -> None:
    """The first start also meets what an interrupted earlier one left, and finds the usual ports taken by `stack`."""
    for left_over in (state_dir / "kafka" / "data.part", state_dir / "postgres" / "data.part"):
        left_over.mkdir(parents=True)
        (left_over / "PG_VERSION").touch()
    children: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError), start(state_dir) as first:  # noqa: PT012 - its whole body is the subject
        assert first.kafka_bootstrap != stack.kafka_bootstrap
        asyncio.run(create_topic(first.kafka_bootstrap, "kept"))
        asyncio.run(produce(first.kafka_bootstrap, "kept", b"before"))
        asyncio.run(execute(first.admin_url, "CREATE TABLE kept (name text)", "INSERT INTO kept VALUES ('before')"))
        children += [psutil.Process(first.kafka_pid), psutil.Process(first.postgres_pid)]
        _ = 1 / 0
    assert len(children) == 2
    assert not any(child.is_running() for child in children)
    assert (state_dir / "kafka" / "data" / ".kafka_cleanshutdown").exists()
    assert "received fast shutdown request" in (state_dir / "postgres" / "server.log").read_text()
    with start(state_dir) as second:
        assert (second.kafka_bootstrap, second.admin_url) == (first.kafka_bootstrap, first.admin_url)
        assert asyncio.run(first_record(second.kafka_bootstrap, "kept")) == b"before"
        assert asyncio.run(execute(second.admin_url, "SELECT name FROM kept")) == "before"


def test_a_pid_that_is_another_programs_by_now_does_not_stop_postgres(stack: StackAddresses, tmp_path: Path) -> None:
    pid_file = tmp_path / "postmaster.pid"
    pid_file.write_text(f"{stack.postgres_pid}\n")
    forget_reused_pid(pid_file)
    assert pid_file.exists()
    pid_file.write_text(f"{os.getpid()}\n")
    forget_reused_pid(pid_file)
    assert not pid_file.exists()


# --- it leaves nothing running ---------------------------------------------------------------------------------------


def test_kill_9_of_the_parent_ends_every_child_and_the_next_start_recovers(state_dir: Path) -> None:
    with holder(state_dir) as (process, printed):
        assert not printed["jgo_imported"]
        asyncio.run(create_topic(printed["kafka_bootstrap"], "kept"))
        asyncio.run(produce(printed["kafka_bootstrap"], "kept", b"before"))
        children = family(process)
        assert {printed["kafka_pid"], printed["postgres_pid"]} < {child.pid for child in children}
        process.kill()
        process.wait()
        assert_gone(children)
    with start(state_dir) as again:
        assert asyncio.run(first_record(again.kafka_bootstrap, "kept")) == b"before"


def test_ctrl_c_reaches_the_parent_alone_and_it_stops_them_in_order(state_dir: Path) -> None:
    with holder(state_dir) as (process, _printed):
        children = family(process)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert_gone(children)
    assert (state_dir / "kafka" / "data" / ".kafka_cleanshutdown").exists()
    assert "received immediate shutdown" not in (state_dir / "postgres" / "server.log").read_text()


def test_a_server_left_behind_is_ended_by_the_next_start(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no prctl; here the broker is played by an interpreter under its name."""
    monkeypatch.setattr(stale_processes, "WAIT_SECONDS", 0.5)
    paths = open_state(state_dir)
    java = tmp_path / "java"
    java.symlink_to(Path(sys.executable).resolve())
    sleeper = [str(java), "-I", "-S", "-c", "import signal; print(flush=True); signal.pause()"]
    with (
        subprocess.Popen([*sleeper, str(paths.kafka / "server.properties")], stdout=subprocess.PIPE) as ours,
        subprocess.Popen([*sleeper, "/elsewhere/kafka/server.properties"], stdout=subprocess.PIPE) as foreign,
    ):
        try:
            for process in (ours, foreign):
                assert process.stdout is not None
                assert process.stdout.readline()
            stale_processes.end_stale_processes(paths)
            assert (psutil.pid_exists(ours.pid), psutil.pid_exists(foreign.pid)) == (False, True)
        finally:
            ours.kill()
            foreign.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_launcher_refuses_when_the_parent_is_gone_already() -> None:
    command = [sys.executable, "-I", "-S", str(PARENT_DEATH), "1", "9", "-", "--", "/bin/echo", "ran"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "parent process has ended" in result.stderr


# --- root and ordinary users -----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="already an ordinary user")
def test_an_ordinary_user_runs_it_and_states_are_not_mixed(stack: StackAddresses, running_state: Path) -> None:
    with directory() as home, ordinary_user() as user, passable(Path(sys.executable).resolve(), REPOSITORY, home):
        copy_jars(home / ".cache")
        give_tree(home, user)
        environment = {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": str(REPOSITORY)}
        as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": environment}
        with holder(home / "state", **as_user) as (process, printed):
            assert {child.uids().effective for child in family(process)} == {user.pw_uid}
            assert asyncio.run(execute(printed["query_url"], "SELECT 1")) == 1
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        with pytest.raises(AssertionError, match=r"cannot be used by this user"), holder(running_state, **as_user):
            pass
        with pytest.raises(StackError, match=rf"was made by user {user.pw_name}"), start(home / "state"):
            pass


@contextmanager
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    name = f"footfall-{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", name], check=True, capture_output=True)
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


@contextmanager
def passable(*paths: Path) -> Iterator[None]:
    """Let an ordinary user walk to these paths (an interpreter may be installed in root's home), and undo it after."""
    with ExitStack() as undo:
        for place in {parent for path in paths for parent in [path, *path.parents]}:
            mode = stat.S_IMODE(place.stat().st_mode)
            if not mode & stat.S_IXOTH:
                place.chmod(mode | stat.S_IXOTH)
                undo.callback(place.chmod, mode)
        yield


def give_tree(root: Path, user: pwd.struct_passwd) -> None:
    for path in [root, *root.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid)


@contextmanager
def one_attempt() -> Iterator[None]:
    stamina.set_testing(True, attempts=1)
    try:
        yield
    finally:
        stamina.set_testing(False)


def forbid_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nobody listens


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@contextmanager
def maven_mirror(root: Path) -> Iterator[str]:
    """The URL of a server of the files below `root`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.symlink_to(source)


def jars_in_cache() -> Path:
    return cache_root() / jars_name()


def copy_jars(cache: Path) -> None:
    shutil.copytree(jars_in_cache(), cache / "footfall" / jars_name())
