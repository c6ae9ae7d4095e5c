"""The whole of Footfall on this machine: embedded servers, schema, topics, projector, front. For `up` and `demo`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil
from pydantic import SecretStr
from rich.console import Console

from footfall.local.embedded import (
    StackAddresses,
    StackError,
    StackOptions,
    announce_front,
    embedded_stack,
    spawn_child,
)
from footfall.local.reporter import grant_local
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate

FRONT_PORT = 3000
PROJECTOR_PORT = 3003  # of the first projector's probes
READY_WITHIN = 60.0  # seconds for projector and front together
DRAIN_WITHIN = 12.0  # seconds for a process to drain after SIGTERM
POLL = 0.05  # seconds


@dataclass(frozen=True)
class RunOptions:
    """How Footfall is run. `front_port` None: 3000 if it is free, else any that is.

    `projector_port`: of the first projector's probes, the others' follow; None: 3003 and so on, or any that are free.
    """

    state_dir: Path = Path(".footfall")
    front_port: int | None = None
    kafka_port: int | None = None
    postgres_port: int | None = None
    partitions: int = 6
    projectors: int = 1
    projector_port: int | None = None


@dataclass(frozen=True)
class Running:
    """Footfall at work. `processes` are projectors and front; each has a log file beside the state."""

    front: str  # URL
    stack: StackAddresses
    processes: "Sequence[subprocess.Popen[bytes]]"
    log_dir: Path

    def ended(self) -> list[int]:
        """Process ids of those that ended, though they should run; servers included."""
        servers = [self.stack.kafka_pid, self.stack.postgres_pid]
        return [
            *(process.pid for process in self.processes if process.poll() is not None),
            *(pid for pid in servers if not runs(pid)),
        ]


@contextmanager
def running_footfall(options: RunOptions, console: Console) -> Iterator[Running]:
    """Starts everything, yields when it is ready, and stops everything whatever happens. Raises StackError."""
    port = free_port(options.front_port, FRONT_PORT)
    stack_options = StackOptions(options.state_dir, options.kafka_port, options.postgres_port)
    with embedded_stack(stack_options, console) as stack:
        with console.status("Bringing schema and topics up to date"):
            migrate(MigrateSettings(database_url=SecretStr(stack.admin_url)))
            asyncio.run(grant_local(stack.admin_url))
            topics = create_topics(
                TopicSettings(kafka_bootstrap_servers=stack.kafka_bootstrap, kafka_partitions=options.partitions)
            )
        for found in topics.values():
            for sentence in found.differs:
                console.print(sentence, style="yellow", markup=False)
        log_dir = options.state_dir / "logs"
        log_dir.mkdir(exist_ok=True)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            with console.status("Starting projector and front"):
                probes = probe_ports(options)
                for probe_port in probes:
                    processes += [start_projector(stack, probe_port, log_dir / f"projector-{probe_port}.log")]
                processes += [start_front(stack, port, log_dir / "front.log")]
                running = Running(f"http://127.0.0.1:{port}", stack, processes, log_dir)
                stops = wait_until_ready(running, [running.front, *(f"http://127.0.0.1:{probe}" for probe in probes)])
            for stop_reason in stops:
                first, _, more = stop_reason.partition("; ")
                rest = " (and more partitions: footfall status)" if more else ""
                message = f"Not every new event will become visible yet. {first}{rest}"
                console.print(message, style="yellow", markup=False, soft_wrap=True)
            announce_front(options.state_dir, running.front)
            yield running
        finally:
            stop(processes)


def probe_ports(options: RunOptions) -> list[int]:
    """One for each projector. Raises StackError when one that was asked for is taken."""
    asked = options.projector_port
    return [
        free_port(None if asked is None else asked + number, PROJECTOR_PORT + number, "--projector-port")
        for number in range(options.projectors)
    ]


def free_port(asked: int | None, usual: int, option: str = "--port") -> int:
    """The port asked for, or the usual one, or any that is free. Raises StackError when the one asked for is taken."""
    for port in [asked] if asked is not None else [usual, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StackError(f"Port {asked} is taken by another program. Stop it, or choose another with {option}.")


def start_projector(stack: StackAddresses, port: int, log_path: Path) -> "subprocess.Popen[bytes]":
    """One more projector; `port` is for its probes."""
    return start_process(["projector", "--port", str(port)], {"DATABASE_URL": stack.projector_url}, stack, log_path)


def start_front(stack: StackAddresses, port: int, log_path: Path) -> "subprocess.Popen[bytes]":
    """Both sides in one process."""
    return start_process(["front", "--port", str(port)], {"DATABASE_URL": stack.query_url}, stack, log_path)


def start_process(
    arguments: list[str], environment: dict[str, str], stack: StackAddresses, log_path: Path
) -> "subprocess.Popen[bytes]":
    """`footfall <arguments>` as a child that cannot outlive us."""
    return spawn_child(
        [sys.executable, "-m", "footfall", *arguments],
        death_signal=signal.SIGKILL,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap, **environment},
        log_path=log_path,
    )


def wait_until_ready(running: Running, urls: Sequence[str]) -> list[str]:
    """Returns when every process answers that everything it needs is there, or that partitions stand still, and why.

    Those reasons are returned: each names a way on, which needs the servers that run here. Raises StackError.
    """
    deadline = time.monotonic() + READY_WITHIN
    while True:
        states = [readiness(f"{url}/health/ready") for url in urls]
        if all(state is not None for state in states):
            return [state for state in states if state]
        if running.ended() or time.monotonic() > deadline:
            raise StackError(f"Footfall did not become ready; see the logs in {running.log_dir}.")
        time.sleep(POLL)


def readiness(url: str) -> str | None:
    """Empty: ready. A sentence: all is there but for partitions that stand still. None: not ready."""
    try:
        with urlopen(url, timeout=2) as response:  # noqa: S310 - our own http:// address
            return "" if response.status == 200 else None
    except HTTPError as refused:
        return standing_still(refused.read())
    except (URLError, OSError):
        return None


def standing_still(body: bytes) -> str | None:
    """Why partitions stand still, if that is all that `/health/ready` misses."""
    try:
        dependencies = json.loads(body)["dependencies"]
        missing = {name: state["detail"] for name, state in dependencies.items() if not state["ok"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    detail = missing.get("partitions", "")
    return str(detail) if len(missing) == 1 and "stopped" in detail else None


def runs(pid: int) -> bool:
    """Whether a child that somebody else waits for is still at work."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Asks all to drain, front first, and kills what overstays."""
    for process in reversed(processes):
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + DRAIN_WITHIN
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
