"""Runs the processes of one topic and one database, and restarts each that ends, until the round is over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import psutil

from bench.stage import free_port
from chaos.checking.history import Counter
from chaos.stand.load import Load
from chaos.stand.proxy import Proxy
from chaos.stand.rounds import new_database, new_topic
from chaos.stand.servers import Servers
from chaos.stand.wire import PostgresWire
from footfall.local.embedded import spawn_child
from projector.failpoints import VARIABLE

POLL = 0.05  # seconds
AGAIN_AFTER = 0.5  # seconds between two starts of one role, at least
END_WITHIN = 12.0  # seconds after SIGTERM until a process is killed

SESSION_TIMEOUT = 3.0  # seconds; the consumer session timeout
SHORT_TIMEOUTS = {
    "KAFKA_SESSION_TIMEOUT_MS": "3000",
    "KAFKA_HEARTBEAT_INTERVAL_MS": "500",
    "PUBLISH_TIMEOUT_MS": "5000",
}

Popen = subprocess.Popen[bytes]


class ChaosError(Exception):
    """The harness itself failed. This is not a finding about Footfall."""


@dataclass
class Role:
    """One process of the cluster. `wanted`: whether it should run. `start` starts it."""

    name: str
    start: Callable[[], Popen]
    wanted: bool = True
    process: Popen | None = None
    started_at: float = 0.0
    starts: int = 0
    frozen: bool = False
    extra: dict[str, str] = field(default_factory=dict)  # environment variables for the next start only


class Cluster:
    """The processes of one round. `program(role)` returns the module that runs a role: Footfall, or a mutant of it."""

    def __init__(
        self,
        servers: Servers,
        directory: Path,
        name: str,
        *,
        seed: int,
        program: Callable[[str], list[str]] = lambda _: ["footfall"],
        per_second: float = 900.0,
        schema: str = "",
    ) -> None:
        self.servers, self.topic, self.name, self._seed = servers, name, name, seed
        self._program, self.per_second = program, per_second  # a new rate applies from the load's next start
        self.directory = directory / name
        self.directory.mkdir(exist_ok=True)
        self.history = self.directory / "history.jsonl"
        self.history.unlink(missing_ok=True)
        self.counter = Counter(self.history)
        self._ports = {name: free_port() for name in ("command", "query")}
        self.database = new_database(servers, name, schema)
        projectors = ("projector-1", "projector-2", "projector-3")
        self.proxies = {p: Proxy(("127.0.0.1", servers.postgres_port), PostgresWire) for p in projectors}
        self.roles = {
            **{b: Role(b, partial(servers.start_broker, b), process=servers.running(b)) for b in servers.broker_names},
            "postgres": Role("postgres", servers.start_postgres, process=servers.running("postgres")),
            "command": Role("command", lambda: self._side("command")),
            **{p: Role(p, lambda p=p: self._projector(p), wanted=p != "projector-3") for p in projectors},  # type: ignore[misc]
            "query": Role("query", lambda: self._side("query")),
            "load": Role("load", self._load),
        }
        new_topic(servers, self.topic)

    # --- life ---------------------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Starts each wanted role that does not run."""
        for role in self.roles.values():
            ended = role.process is None or role.process.poll() is not None
            if role.wanted and ended and time.monotonic() - role.started_at > AGAIN_AFTER:
                role.started_at = time.monotonic()
                role.starts += 1
                role.frozen = False
                role.process = role.start()
                role.extra = {}

    def wait(self, seconds: float) -> None:
        """Waits for `seconds`, and restarts roles that end meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tend()
            time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))

    def wait_until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        """Waits until the condition holds. After `within` seconds it raises ChaosError, which names `what`."""
        if not self.holds_within(condition, within):
            raise ChaosError(f"waited {within:g} s for {what}")

    def holds_within(self, condition: Callable[[], bool], within: float) -> bool:
        """Waits for at most `within` seconds; returns whether the condition came to hold."""
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.wait(POLL)
        return True

    def acknowledged_more(self, count: int) -> Callable[[], bool]:
        """Returns the condition that `count` more commands than now are acknowledged."""
        goal = self.counter.read() + count
        return lambda: self.counter.read() >= goal

    def url(self, side: str, path: str) -> str:
        """Returns the address of a path of the command side or the query side."""
        return f"http://127.0.0.1:{self._ports[side]}{path}"

    def runs(self, name: str) -> bool:
        """Whether the role's process runs and is not frozen."""
        role = self.roles[name]
        return role.process is not None and role.process.poll() is None and not role.frozen

    def projectors(self) -> list[str]:
        """Returns the names of the projectors that should run."""
        return [name for name, role in self.roles.items() if name.startswith("projector") and role.wanted]

    def end(self, *names: str) -> None:
        """Ends these roles for good, and waits until they have ended."""
        for name in names:
            role = self.roles[name]
            role.wanted = False
            if role.process is not None and role.process.poll() is None:
                self.thaw(name)
                role.process.terminate()
        for name in names:
            process = self.roles[name].process
            if process is not None:
                try:
                    process.wait(END_WITHIN)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def close(self) -> None:
        """Kills everything except the two servers."""
        for proxy in self.proxies.values():
            proxy.cut()
        for name, role in self.roles.items():
            role.wanted = False
            if not name.startswith(("broker", "postgres")) and role.process is not None and role.process.poll() is None:
                role.process.kill()
                role.process.wait()

    # --- faults -------------------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """Sends SIGKILL to the process and its children."""
        for process in self._family(name):
            _send(process, signal.SIGKILL)
        self._popen(name).wait()

    def terminate(self, name: str) -> None:
        """Sends SIGTERM (to PostgreSQL SIGINT, its fast shutdown). The role is started again afterwards."""
        self._popen(name).send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)

    def freeze(self, name: str) -> None:
        """Sends SIGSTOP to the process and its children."""
        self.roles[name].frozen = True
        for process in self._family(name):
            _send(process, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Sends SIGCONT to a frozen process and its children."""
        if self.roles[name].frozen:
            self.roles[name].frozen = False
            for process in self._family(name):
                _send(process, signal.SIGCONT)

    def _popen(self, name: str) -> Popen:
        process = self.roles[name].process
        assert process is not None, name
        return process

    def _family(self, name: str) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._popen(name).pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    # --- processes ----------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Returns the environment of every Footfall process."""
        return {
            **os.environ,
            "ENVIRONMENT": "test",
            "KAFKA_BOOTSTRAP_SERVERS": self.servers.kafka,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP_ID": f"group-of-{self.topic}",
            "KAFKA_DLQ_TOPIC": f"{self.topic}-dlq",
            "KAFKA_AUDIT_TOPIC": f"{self.topic}-audit",
            **SHORT_TIMEOUTS,
        }

    def _side(self, name: str) -> Popen:
        own = {"DATABASE_URL": self.servers.url("query", self.database)}
        if name == "command":
            own = {"KAFKA_BOOTSTRAP_SERVERS": self.servers.proxied_kafka}
        return self._spawn(name, [f"{name}-side", "--port", str(self._ports[name])], own)

    def _projector(self, name: str) -> Popen:
        url = self.servers.url("projector", self.database, self.proxies[name].port)
        own = {"DATABASE_URL": url, VARIABLE: "", **self.roles[name].extra}
        return self._spawn(name, ["projector", "--port", "0"], own)

    def _spawn(self, name: str, arguments: list[str], own: dict[str, str]) -> Popen:
        return spawn_child(
            [sys.executable, "-m", *self._program(name), *arguments],
            death_signal=signal.SIGKILL,
            env={**self.environment(), **own},
            log_path=self.directory / f"{name}.log",
        )

    def _load(self) -> Popen:
        epoch, ports = self.roles["load"].starts, self._ports
        load = Load(ports["command"], ports["query"], str(self.history), epoch, self._seed, per_second=self.per_second)
        return spawn_child(
            [sys.executable, "-m", "chaos.stand.load", msgspec.json.encode(load).decode()],
            death_signal=signal.SIGKILL,
            log_path=self.directory / "load.log",
        )

    def logged(self, event: str) -> int:
        """Returns how often the projectors have logged this event."""
        marker = f'"event":"{event}"'.encode()
        spaced = f'"event": "{event}"'.encode()
        logs = [path.read_bytes() for path in self.directory.glob("projector-*.log")]
        return sum(log.count(marker) + log.count(spaced) for log in logs)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
