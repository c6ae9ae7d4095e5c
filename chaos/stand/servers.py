"""Runs a broker and a PostgreSQL that may be killed and restarted on their state, and the proxies before them."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from rich.console import Console

from bench.stage import free_port
from chaos.stand.proxy import Proxy
from chaos.stand.wire import KafkaWire
from footfall.local.embedded.child_process import Child, stop_children
from footfall.local.embedded.kafka.broker import (
    JVM_FLAGS,
    KafkaBroker,
    is_in_service,
    run_java,
    server_properties,
    wait_for_broker,
)
from footfall.local.embedded.kafka.cluster import KafkaCluster
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from footfall.local.embedded.paths import StatePaths, open_state
from footfall.local.embedded.postgres.cluster import open_cluster
from footfall.local.embedded.postgres.roles import OWNER, PROJECTOR, QUERY, ensure_roles, load_passwords, role_url
from footfall.local.embedded.postgres.server import start_server, wait_for_server

DISK_BYTES = 4 * 1024**3  # size of PostgreSQL's own file system, if one can be mounted
# Several brokers share this machine: a third of the memory for each, and the compiler that needs less of the processor.
HEAP_OF_SEVERAL = ["-Xms96m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *JVM_FLAGS[-4:]]
SPARED_BYTES = (1_000, 300_000, 1_000_000, 4_000_000)  # room left on a full disk: the first value that works


class Servers:
    """Kafka and PostgreSQL. `kafka`: the brokers' addresses, comma separated.

    `proxied_kafka`: the address of the proxy before the broker; several brokers have none.
    """

    def __init__(self, paths: StatePaths, jars: Path, console: Console, brokers: int = 1) -> None:
        self.postgres_port, self._behind_proxy, *ports = (free_port() for _ in range(2 + 2 * brokers))
        controllers = tuple(ports[brokers:])
        self.brokers = KafkaCluster(
            [
                KafkaBroker(paths.broker(node), jars, port, controller, node=node, controllers=controllers)
                for node, (port, controller) in enumerate(zip(ports, controllers, strict=False), 1)
            ]
        )
        self.kafka = self.brokers.bootstrap
        self.kafka_proxy = Proxy(("127.0.0.1", self._behind_proxy), KafkaWire)
        self.proxied_kafka = f"127.0.0.1:{self.kafka_proxy.port}" if brokers == 1 else self.kafka
        self._disk = paths.postgres
        self.disk_mounted = _mount(self._disk)
        formatting = self.brokers.begin_format()
        self._passwords = load_passwords(paths.secrets, cluster_exists=False)
        self._cluster = open_cluster(paths.postgres, self._passwords.superuser, True, console)
        self.brokers.finish_format(formatting)
        self._last: dict[str, Child] = {}

    @property
    def broker_names(self) -> list[str]:
        """The name of each broker's role: `broker`, or `broker-1` and so on."""
        if len(self.brokers.brokers) == 1:
            return ["broker"]
        return [f"broker-{broker.node}" for broker in self.brokers.brokers]

    def start(self) -> None:
        """Starts all servers and waits until they are ready."""
        for name in self.broker_names:
            self._run_broker(name)
        postgres = self._run_postgres()
        wait_for_server(self._cluster, postgres)
        ensure_roles(self.postgres_port, self._passwords)
        self._wait_for_brokers()

    def start_broker(self, name: str = "broker") -> "subprocess.Popen[bytes]":
        """Starts a broker, without waiting until it is ready."""
        return self._run_broker(name).process

    def in_service(self) -> bool:
        """Whether every broker answers, and lists all of them."""
        return all(is_in_service(broker.port, None, broker.nodes) for broker in self.brokers.brokers)

    def start_postgres(self) -> "subprocess.Popen[bytes]":
        """Starts PostgreSQL, without waiting until it is ready."""
        return self._run_postgres().process

    def running(self, name: str) -> "subprocess.Popen[bytes]":
        """Returns the latest process of a broker or of `postgres`."""
        return self._last[name].process

    def wait(self) -> None:
        """Waits until all are ready."""
        wait_for_server(self._cluster, self._last["postgres"])
        self._wait_for_brokers()

    def _wait_for_brokers(self) -> None:
        for name, broker in zip(self.broker_names, self.brokers.brokers, strict=True):
            wait_for_broker(broker, self._last[name])

    def url(self, role: str, database: str, port: int | None = None) -> str:
        """Returns the URL of `owner`, `projector` or `query`, without TLS, so that a proxy can read the protocol."""
        passwords = self._passwords
        login, password = {
            "owner": (OWNER, passwords.owner),
            "projector": (PROJECTOR, passwords.projector),
            "query": (QUERY, passwords.query),
        }[role]
        plain = role_url(port or self.postgres_port, login, password)
        return plain.rpartition("/")[0] + f"/{database}?sslmode=disable"

    def fill_disk(self) -> None:
        """Shrinks PostgreSQL's file system until it is full."""
        usage = shutil.disk_usage(self._disk)
        for spared in SPARED_BYTES:  # PostgreSQL writes meanwhile, and a file system cannot shrink below its content
            if _remount(self._disk, usage.used + spared):
                return

    def free_disk(self) -> None:
        """Gives the file system its full size again."""
        if self.disk_mounted:
            _remount(self._disk, DISK_BYTES)

    def stop(self) -> None:
        """Stops both servers and unmounts the file system."""
        self.free_disk()
        for child in self._last.values():
            with suppress(psutil.Error):
                psutil.Process(child.process.pid).resume()
        self.kafka_proxy.cut()
        stop_children(self._last.values())
        if self.disk_mounted:
            _run("umount", "--lazy", str(self._disk))

    def _run_broker(self, name: str) -> Child:
        broker = self.brokers.brokers[self.broker_names.index(name)]
        more = self._proxied_listener(broker) if broker.nodes == 1 else ""
        broker.properties.write_text(server_properties(broker, broker.data) + more)
        process = run_java(
            broker, JVM_FLAGS if broker.nodes == 1 else HEAP_OF_SEVERAL, ["kafka.Kafka", str(broker.properties)]
        )
        self._last[name] = Child(f"Kafka ({name})", process, broker.log_path, signal.SIGTERM, 10.0)
        return self._last[name]

    def _run_postgres(self) -> Child:
        self._last["postgres"] = start_server(self._cluster, self.postgres_port, True)
        return self._last["postgres"]

    def _proxied_listener(self, broker: KafkaBroker) -> str:
        """Returns configuration for a listener that names the proxy as the broker's address to its clients."""
        return f"""
listeners=PLAINTEXT://127.0.0.1:{broker.port},PROXIED://127.0.0.1:{self._behind_proxy},\
CONTROLLER://127.0.0.1:{broker.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker.port},PROXIED://{self.proxied_kafka}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


def _mount(directory: Path) -> bool:
    """Mounts a file system in memory on the directory; returns whether that succeeded."""
    options = f"size={DISK_BYTES},mode=0711"
    return _run("mount", "-t", "tmpfs", "-o", options, "footfall-chaos", str(directory))


def _remount(directory: Path, size: int) -> bool:
    return _run("mount", "-o", f"remount,size={size}", str(directory))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def servers(console: Console, logs: Path | None = None, brokers: int = 1) -> Iterator[tuple[Servers, Path]]:
    """Runs Kafka and PostgreSQL on new state during the body.

    Yields the servers, and the directory for logs and histories: `logs`, or a temporary one that is removed.
    """
    directory = Path(tempfile.mkdtemp(prefix="footfall-chaos-"))
    directory.chmod(0o711)
    jars = ensure_kafka_jars(console)
    found = None
    try:
        with console.status("Starting Kafka and PostgreSQL"):
            found = Servers(open_state(directory / "state"), jars, console, brokers)
            found.start()
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        yield found, logs or directory
    finally:
        if found is not None:
            found.stop()
        shutil.rmtree(directory, ignore_errors=True)
