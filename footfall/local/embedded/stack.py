"""Runs Kafka and PostgreSQL as children of this process, for `footfall up`, `footfall demo` and the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from footfall.local.embedded.certificates import HOSTS, Certificates
from footfall.local.embedded.child_process import Child, stop_children
from footfall.local.embedded.kafka.broker import KafkaBroker, begin_format, finish_format, start_broker, wait_for_broker
from footfall.local.embedded.kafka.class_archive import archive_classes
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from footfall.local.embedded.kafka.security import ADMIN, BROKER, FRONT, BrokerSecurity
from footfall.local.embedded.paths import StatePaths, open_state
from footfall.local.embedded.ports import StackPorts, claim_ports
from footfall.local.embedded.postgres.cluster import open_cluster
from footfall.local.embedded.postgres.roles import (
    OWNER,
    PROJECTOR,
    QUERY,
    Passwords,
    ensure_roles,
    load_passwords,
    role_url,
)
from footfall.local.embedded.postgres.server import start_server, wait_for_server
from footfall.local.embedded.stale_processes import end_stale_processes
from footfall.local.embedded.state_lock import StateLock, hold_state


@dataclass(frozen=True)
class StackOptions:
    """How to start a stack. A port of None: the remembered one, otherwise the usual one, otherwise any free one."""

    state_dir: Path = Path(".footfall")
    kafka_port: int | None = None
    postgres_port: int | None = None
    durable: bool = (
        True  # False, for tests: PostgreSQL without fsync, smaller buffers; Kafka quick to start, not to work
    )
    secure: bool = False  # Kafka by TLS, with passwords and rights


@dataclass(frozen=True)
class StackAddresses:
    """The addresses of the servers. The URLs contain passwords: do not log them."""

    kafka_bootstrap: str  # host:port
    admin_url: str = field(repr=False)  # owner of database `footfall`: migrations
    projector_url: str = field(repr=False)  # member of footfall_writer
    query_url: str = field(repr=False)  # member of footfall_reader; transactions are read-only by default
    kafka_pid: int
    postgres_pid: int
    security: BrokerSecurity | None = None  # of Kafka; None: everybody on this machine may do everything


@contextmanager
def embedded_stack(options: StackOptions, console: Console | None = None) -> Iterator[StackAddresses]:
    """Runs Kafka and PostgreSQL during the body, on state that is kept between runs, and stops both afterwards.

    Call it on the main thread: the servers end with the thread that starts them, also on ``kill -9``.

    Args:
        options: State directory, ports, durability.
        console: Shows progress; None: standard error.

    Raises:
        StackError: Another process holds the state, a requested port is taken, Kafka cannot be fetched, or a server
            does not start.
    """
    console = console or Console(stderr=True)
    paths = open_state(options.state_dir)
    children: list[Child] = []
    with hold_state(paths) as lock:
        jars = ensure_kafka_jars(console)
        end_stale_processes(paths)
        with claim_ports(paths.ports, options.kafka_port, options.postgres_port) as ports:
            try:
                addresses = start(options, paths, ports, jars, children, console)
                note_addresses(lock, ports)
                yield addresses
                archive_classes(jars, addresses.kafka_pid)  # last, when nobody needs the JVM any more
            finally:
                stop_children(children)


def start(
    options: StackOptions, paths: StatePaths, ports: StackPorts, jars: Path, children: list[Child], console: Console
) -> StackAddresses:
    """Starts both servers and waits for both. Every started process is in `children`, also if this raises."""
    security = broker_security(paths, ports) if options.secure else None
    brief = not options.durable
    broker = KafkaBroker(paths.kafka, jars, ports.kafka, ports.controller, brief=brief, security=security)
    with console.status("Starting Kafka and PostgreSQL"):
        formatting = begin_format(broker)
        children.extend([formatting] if formatting else [])
        passwords = load_passwords(paths.secrets, cluster_exists=(paths.postgres / "data").exists())
        cluster = open_cluster(paths.postgres, passwords.superuser, options.durable, console)
        if formatting:
            finish_format(broker, formatting)
        kafka = start_broker(broker)
        children.append(kafka)
        postgres = start_server(cluster, ports.postgres, options.durable)
        children.append(postgres)
        wait_for_server(cluster, postgres)
        ensure_roles(ports.postgres, passwords)
        wait_for_broker(broker, kafka)
    return addresses_of(broker, ports, passwords, kafka, postgres)


def addresses_of(
    broker: KafkaBroker, ports: StackPorts, passwords: Passwords, kafka: Child, postgres: Child
) -> StackAddresses:
    return StackAddresses(
        kafka_bootstrap=broker.bootstrap,
        admin_url=role_url(ports.postgres, OWNER, passwords.owner),
        projector_url=role_url(ports.postgres, PROJECTOR, passwords.projector),
        query_url=role_url(ports.postgres, QUERY, passwords.query),
        kafka_pid=kafka.process.pid,
        postgres_pid=postgres.process.pid,
        security=broker.security,
    )


def broker_security(paths: StatePaths, ports: StackPorts) -> BrokerSecurity:
    """Returns the certificates of this state directory, made at the first secured start."""
    parties: dict[str, tuple[str, ...]] = dict.fromkeys((ADMIN, BROKER, FRONT), HOSTS)
    return BrokerSecurity(Certificates(paths.kafka.parent / "certificates", parties), ports.kafka_admin)


def note_addresses(lock: StateLock, ports: StackPorts) -> None:
    lock.write(kafka=f"127.0.0.1:{ports.kafka}", postgres=f"127.0.0.1:{ports.postgres}")
