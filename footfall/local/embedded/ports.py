"""Chooses the stack's TCP ports on 127.0.0.1: the requested, the remembered, the usual, or any free one."""

import errno
import json
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from footfall.local.embedded.stack_error import StackError

HOST = "127.0.0.1"
USUAL_KAFKA_PORT = 9092
USUAL_POSTGRES_PORT = 5432
# Below the ephemeral ranges of Linux and macOS, so that no outgoing connection takes a port between our check and the
# server's bind.
SPARE_PORTS = range(20_000, 22_000)
SPARE_PORT_ATTEMPTS = 200


@dataclass(frozen=True)
class StackPorts:
    """The TCP ports of one stack, all on 127.0.0.1."""

    kafka: int
    controller: int
    postgres: int
    kafka_admin: int  # only used by a secured stack
    further: dict[str, int] = field(default_factory=dict)  # of the second broker and those after it

    def of_broker(self, node: int) -> "BrokerPorts":
        """Returns the ports of a broker by its number, from 1."""
        if node == 1:
            return BrokerPorts(self.kafka, self.controller, self.kafka_admin)
        return BrokerPorts(*(self.further[f"{name}-{node}"] for name in ("kafka", "controller", "kafka_admin")))


@dataclass(frozen=True)
class BrokerPorts:
    """The ports of one broker: for clients, for controllers, and for the administrator of a secured stack."""

    kafka: int
    controller: int
    admin: int


@contextmanager
def claim_ports(memory: Path, kafka: int | None, postgres: int | None, brokers: int = 1) -> Iterator[StackPorts]:
    """Chooses the ports and keeps other stacks off them during the body.

    Args:
        memory: File that remembers the ports for the next start.
        kafka: The requested port of Kafka, if any.
        postgres: The requested port of PostgreSQL, if any.
        brokers: How many brokers there are; the requested port is that of the first.

    Raises:
        StackError: A requested port is taken.
    """
    remembered = read_ports(memory)
    with ExitStack() as claims:
        ports = StackPorts(
            kafka=choose(claims, kafka, "Kafka", [remembered.get("kafka"), USUAL_KAFKA_PORT]),
            controller=choose(claims, None, "Kafka's controller", [remembered.get("controller")]),
            postgres=choose(claims, postgres, "PostgreSQL", [remembered.get("postgres"), USUAL_POSTGRES_PORT]),
            kafka_admin=choose(claims, None, "Kafka's administrator", [remembered.get("kafka_admin")]),
            further={
                name: choose(claims, None, f"Kafka ({name})", [remembered.get(name)]) for name in further_names(brokers)
            },
        )
        memory.write_text(json.dumps(asdict(ports) | ports.further) + "\n")
        yield ports


def further_names(brokers: int) -> list[str]:
    """Returns the names of the ports that the second broker and those after it need."""
    return [f"{name}-{node}" for node in range(2, brokers + 1) for name in ("kafka", "controller", "kafka_admin")]


def choose(claims: ExitStack, asked: int | None, what: str, preferred: Sequence[int | None]) -> int:
    """Claims the requested port, or the first preferred one that is free, or any free one.

    Args:
        claims: Keeps other stacks off the port until it is closed.
        asked: The requested port, if any.
        what: What the port is for, in a message.
        preferred: The ports to try first.

    Raises:
        StackError: The requested port is taken.
    """
    if asked is not None:
        if not claim(claims, asked):
            raise StackError(taken(asked, what))
        return asked
    spares = random.sample(SPARE_PORTS, SPARE_PORT_ATTEMPTS)
    for port in [*preferred, *spares]:
        if port is not None and claim(claims, port):
            return port
    raise StackError(f"No free port for {what} on {HOST}. Ask for one by number.")


def claim(claims: ExitStack, port: int) -> bool:
    """Claims a free port; returns whether that succeeded.

    The server binds the port seconds later. Until then, and as long as it runs, the claim keeps other stacks of this
    machine off it, whoever started them: a UDP socket on the same number, which nothing of a stack uses otherwise. The
    kernel knows it where it knows the ports themselves, and it ends with this process.
    """
    if not is_free(port):
        return False
    sign = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sign.bind((HOST, port))
    except OSError:
        sign.close()
        return False
    claims.enter_context(sign)
    return True


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise StackError(f"Port {port} needs root. Ask for a port above 1023.") from error
            return False
    return True


def taken(port: int, what: str) -> str:
    return f"Port {port}, asked for {what}, is taken{by_whom(port)}. Stop that process or ask for another port."


def by_whom(port: int) -> str:
    """Returns words that name the process that listens there, or that has the UDP port: a stack that is starting."""
    try:
        held = [c for c in psutil.net_connections("inet") if c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)]
        pids = [c.pid for c in held if c.laddr and c.laddr.port == port and c.pid]
        return f" by process {pids[0]} ({psutil.Process(pids[0]).name()})" if pids else ""
    except psutil.Error:
        return f" (`ss -lntup sport = :{port}` may name the process)"


def read_ports(memory: Path) -> dict[str, int]:
    try:
        known = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: port for name, port in known.items() if isinstance(port, int)} if isinstance(known, dict) else {}
