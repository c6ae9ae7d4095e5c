"""Runs Kafka and PostgreSQL as children of this process, for `footfall up`, `footfall demo` and the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from footfall.local.embedded.certificates import HOSTS, Certificates
from footfall.local.embedded.child_process import Child, stop_children
from footfall.local.embedded.kafka.broker import KafkaBroker
from footfall.local.embedded.kafka.class_archive import archive_classes
from footfall.local.embedded.kafka.cluster import KafkaCluster, brokers_of_state
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from footfall.local.embedded.kafka.security import ADMIN, BROKER, FRONT, BrokerSecurity
from footfall.local.embedded.paths import StatePaths, open_state
from footfall.local.embedded.ports import HOST, StackPorts, claim_ports
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
from footfall.local.embedded.state_lock import hold_state


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
    brokers: int | None = None  # None: as many as the state was made for, otherwise 1


@dataclass(frozen=True)
class StackAddresses:
    """The addresses of the servers. The URLs contain passwords: do not log them."""

    kafka_bootstrap: str  # host:port of each broker, comma separated
    admin_url: str = field(repr=False)  # owner of database `footfall`: migrations
    projector_url: str = field(repr=False)  # member of footfall_writer
    query_url: str = field(repr=False)  # member of footfall_reader; transactions are read-only by default
    kafka_pid: int  # of the first broker
    postgres_pid: int
    kafka: KafkaCluster = field(repr=False, compare=False)
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
        brokers = brokers_of_state(paths, options.brokers)
        with claim_ports(paths.ports, options.kafka_port, options.postgres_port, brokers) as ports:
            kafka = KafkaCluster(embedded_brokers(options, paths, ports, jars, brokers))
            try:
                addresses = start(options, paths, ports, kafka, children, console)
                lock.write(kafka=kafka.bootstrap, postgres=f"{HOST}:{ports.postgres}")
                yield addresses
                archive_classes(jars, addresses.kafka_pid)  # last, when nobody needs the JVM any more
            finally:
                stop_children([*children, *kafka.children])


def embedded_brokers(
    options: StackOptions, paths: StatePaths, ports: StackPorts, jars: Path, brokers: int
) -> list[KafkaBroker]:
    """Describes the brokers. Of a secured stack they share the certificates, and each has its administrator's port."""
    each = [ports.of_broker(node) for node in range(1, brokers + 1)]
    controllers = tuple(one.controller for one in each)
    return [
        KafkaBroker(
            paths.broker(node),
            jars,
            one.kafka,
            one.controller,
            brief=not options.durable,
            security=broker_security(paths, one.admin) if options.secure else None,
            node=node,
            controllers=controllers,
        )
        for node, one in enumerate(each, 1)
    ]


def start(
    options: StackOptions,
    paths: StatePaths,
    ports: StackPorts,
    kafka: KafkaCluster,
    children: list[Child],
    console: Console,
) -> StackAddresses:
    """Starts all servers and waits for them. Every started process is in `children` or `kafka`, also if this raises."""
    with console.status("Starting Kafka and PostgreSQL"):
        formatting = kafka.begin_format()
        children.extend(child for _, child in formatting)
        passwords = load_passwords(paths.secrets, cluster_exists=(paths.postgres / "data").exists())
        cluster = open_cluster(paths.postgres, passwords.superuser, options.durable, console)
        kafka.finish_format(formatting)
        kafka.start()
        postgres = start_server(cluster, ports.postgres, options.durable)
        children.append(postgres)
        wait_for_server(cluster, postgres)
        ensure_roles(ports.postgres, passwords)
        kafka.wait()
    return addresses_of(kafka, ports, passwords, postgres)


def addresses_of(kafka: KafkaCluster, ports: StackPorts, passwords: Passwords, postgres: Child) -> StackAddresses:
    return StackAddresses(
        kafka_bootstrap=kafka.bootstrap,
        admin_url=role_url(ports.postgres, OWNER, passwords.owner),
        projector_url=role_url(ports.postgres, PROJECTOR, passwords.projector),
        query_url=role_url(ports.postgres, QUERY, passwords.query),
        kafka_pid=kafka.pids[0],
        postgres_pid=postgres.process.pid,
        kafka=kafka,
        security=kafka.brokers[0].security,
    )


def broker_security(paths: StatePaths, admin_port: int) -> BrokerSecurity:
    """Returns the certificates of this state directory, made at the first secured start."""
    parties: dict[str, tuple[str, ...]] = dict.fromkeys((ADMIN, BROKER, FRONT), HOSTS)
    return BrokerSecurity(Certificates(paths.kafka.parent / "certificates", parties), admin_port)
