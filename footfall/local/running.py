"""Starts and stops all of Footfall on this machine for `up` and `demo`: servers, schema, topics, projectors, front."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
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
from footfall.local.embedded.kafka.broker import MOST_COPIES
from footfall.local.embedded.ports import choose
from footfall.local.last_words import ended_process
from footfall.local.reporter import grant_local
from footfall.local.sealed import prepare_key_store
from footfall.local.secured import Door, prepare_door
from footfall.processes.environment import load_settings
from footfall.processes.identity import make_keys_topic
from identity.settings import IdentitySettings
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate

FRONT_PORT = 3000
CONSOLE_PORT = 3004
PARTITIONS, PARTITIONS_OF_SEVERAL = 6, 10  # of a topic on one broker, and on several
PROJECTOR_PORT = 3003  # health and metrics of the first projector
READY_WITHIN = 60.0  # seconds for projector and front together
DRAIN_WITHIN = 12.0  # seconds for a process to drain after SIGTERM
POLL = 0.05  # seconds


@dataclass(frozen=True)
class RunOptions:
    """How to run Footfall. A port of None: the usual one, or any free one.

    `brokers`: as many as the state was made for, otherwise 1. `partitions`: 10 if a broker may be lost, otherwise 6.
    `projector_port`: health and metrics of the first projector; each further projector has the next port.
    """

    state_dir: Path = Path(".footfall")
    front_port: int | None = None
    kafka_port: int | None = None
    postgres_port: int | None = None
    brokers: int | None = None
    partitions: int | None = None
    projectors: int = 1
    projector_port: int | None = None
    secure: bool = False
    console: bool = True  # whether the console runs, too


@dataclass(frozen=True)
class Running:
    """A running Footfall. `processes`: the projectors and the front; each has a log file in `log_dir`.

    `auth`: what opens the front, as the setting AUTH says it.
    """

    front: str  # URL
    stack: StackAddresses
    processes: "Sequence[subprocess.Popen[bytes]]"
    log_dir: Path
    auth: str = "open"
    console: str = ""  # URL; empty: it does not run

    def ended(self) -> list[str]:
        """Returns what has ended by itself, each with its process id.

        One of several brokers is no such thing: `KafkaCluster.restart_ended` starts it again.
        """
        servers = {"PostgreSQL": self.stack.postgres_pid}
        if len(self.stack.kafka.brokers) == 1:
            servers = {"Kafka": self.stack.kafka_pid, **servers}
        return [
            *(f"{name} (pid {pid})" for name, pid in servers.items() if not runs(pid)),
            *(ended_process(process, self.log_dir) for process in self.processes if process.poll() is not None),
        ]


@contextmanager
def running_footfall(options: RunOptions, console: Console) -> Iterator[Running]:
    """Starts everything, yields once it is ready, and stops everything afterwards. Raises StackError."""
    stack_options = StackOptions(
        options.state_dir, options.kafka_port, options.postgres_port, secure=options.secure, brokers=options.brokers
    )
    with ExitStack() as until_end:
        port = choose(until_end, options.front_port, "the front (--port)", [FRONT_PORT])
        stack = until_end.enter_context(embedded_stack(stack_options, console))
        door, auth = prepare(options, stack, console)
        log_dir = options.state_dir / "logs"
        log_dir.mkdir(exist_ok=True)
        processes: list[subprocess.Popen[bytes]] = []
        until_end.callback(stop, processes)
        with console.status("Starting projector and front"):
            probes = probe_ports(options, until_end)
            for probe_port in probes:
                processes += [start_projector(stack, door, probe_port, log_dir / f"projector-{probe_port}.log")]
            console_port = choose(until_end, None, "the console", [CONSOLE_PORT]) if options.console else None
            own = [f"{door.scheme}://127.0.0.1:{each}" for each in (port, *probes)]
            at = "" if console_port is None else f"{door.scheme}://127.0.0.1:{console_port}"
            processes += [start_front(stack, door, port, at, log_dir / "front.log")]
            if console_port is not None:
                processes += [start_console(stack, door, console_port, own, log_dir / "console.log")]
            running = Running(own[0], stack, processes, log_dir, auth, at)
            stops = wait_until_ready(running, [*own, *([at] if at else [])], door.trust)
        for stop_reason in stops:
            first, _, more = stop_reason.partition("; ")
            rest = " (and more partitions: footfall status)" if more else ""
            message = f"Not every new event will become visible yet. {first}{rest}"
            console.print(message, style="yellow", markup=False, soft_wrap=True)
        announce_front(options.state_dir, running.front)
        yield running


def prepare(options: RunOptions, stack: StackAddresses, console: Console) -> tuple[Door, str]:
    """Brings schema and topics up to date. Returns what the processes are started with, and what opens the front."""
    with console.status("Bringing schema and topics up to date"):
        migrate(MigrateSettings(database_url=SecretStr(stack.admin_url)))
        asyncio.run(grant_local(stack.admin_url))
        door = prepare_door(stack, options.state_dir)
        shape = shape_of_topics(len(stack.kafka.brokers), options.partitions)
        topics = create_topics(TopicSettings(**door.admin, **shape))
        make_keys_topic(**door.admin, kafka_replication_factor=shape["kafka_replication_factor"])
        keys = prepare_key_store(stack, options.state_dir)
        door = replace(
            door,
            front={**door.front, **keys},
            projector={**door.projector, **keys},
            console={**door.console, **keys},
        )
    for found in topics.values():
        for sentence in found.differs:
            console.print(sentence, style="yellow", markup=False)
    return door, door.front.get("AUTH") or load_settings(IdentitySettings).auth


def shape_of_topics(brokers: int, partitions: int | None) -> dict[str, Any]:
    """Returns the settings of new topics: on three brokers and more, three copies of each of ten partitions."""
    usual = PARTITIONS if brokers == 1 else PARTITIONS_OF_SEVERAL
    return {"kafka_partitions": partitions or usual, "kafka_replication_factor": min(brokers, MOST_COPIES)}


def probe_ports(options: RunOptions, claims: ExitStack) -> list[int]:
    """Claims a port for each projector's health and metrics. Raises StackError if a requested one is taken."""
    asked = options.projector_port
    return [
        choose(
            claims,
            None if asked is None else asked + number,
            "a projector (--projector-port)",
            [PROJECTOR_PORT + number],
        )
        for number in range(options.projectors)
    ]


def start_projector(stack: StackAddresses, door: Door, port: int, log_path: Path) -> "subprocess.Popen[bytes]":
    """Starts a projector whose health and metrics are on `port`."""
    environment = {**door.projector, "DATABASE_URL": stack.projector_url}
    return start_process(["projector", "--port", str(port)], environment, stack, log_path)


def start_front(
    stack: StackAddresses, door: Door, port: int, console: str, log_path: Path
) -> "subprocess.Popen[bytes]":
    """Starts both sides in one process, which leads to the console at this URL."""
    environment = {**door.front, "DATABASE_URL": stack.query_url, "CONSOLE_URL": console}
    return start_process(["front", "--port", str(port)], environment, stack, log_path)


def start_console(
    stack: StackAddresses, door: Door, port: int, watched: Sequence[str], log_path: Path
) -> "subprocess.Popen[bytes]":
    """Starts the console, which watches the processes at these URLs."""
    urls = {"DATABASE_URL": stack.query_url, "OPERATOR_DATABASE_URL": stack.admin_url}
    environment = {**door.console, **urls, "CONSOLE_WATCH_URLS": ",".join(watched)}
    return start_process(["console", "--port", str(port)], environment, stack, log_path)


def start_process(
    arguments: list[str], environment: Mapping[str, str], stack: StackAddresses, log_path: Path
) -> "subprocess.Popen[bytes]":
    """Starts `footfall <arguments>` as a child process that ends with this process."""
    return spawn_child(
        [sys.executable, "-m", "footfall", *arguments],
        death_signal=signal.SIGKILL,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap, **environment},
        log_path=log_path,
    )


def wait_until_ready(running: Running, urls: Sequence[str], trust: ssl.SSLContext | None = None) -> list[str]:
    """Waits until every process is ready, or is kept from it only by stopped partitions.

    A stopped partition does not end `footfall up`: the command that mends it needs the servers that run here.

    Returns:
        The reason of each process with stopped partitions.

    Raises:
        StackError: A process ended, or was not ready within `READY_WITHIN`.
    """
    deadline = time.monotonic() + READY_WITHIN
    while True:
        states = [readiness(f"{url}/health/ready", trust) for url in urls]
        if all(state is not None for state in states):
            return [state for state in states if state]
        ended = running.ended()
        if ended or time.monotonic() > deadline:
            why = f": ended by itself: {', '.join(ended)}" if ended else ""
            raise StackError(f"Footfall did not become ready{why}; see the logs in {running.log_dir}.")
        time.sleep(POLL)


def readiness(url: str, trust: ssl.SSLContext | None = None) -> str | None:
    """Asks a process for its readiness.

    Returns:
        Empty: ready. A sentence: only stopped partitions are missing. None: not ready.
    """
    try:
        with urlopen(url, timeout=2, context=trust) as response:  # noqa: S310 - our own address
            return "" if response.status == 200 else None
    except HTTPError as refused:
        return standing_still(refused.read())
    except (URLError, OSError):
        return None


def standing_still(body: bytes) -> str | None:
    """Returns why partitions have stopped, if that is all that the answer of `/health/ready` reports; else None."""
    try:
        dependencies = json.loads(body)["dependencies"]
        missing = {name: state["detail"] for name, state in dependencies.items() if not state["ok"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    detail = missing.get("partitions", "")
    return str(detail) if len(missing) == 1 and "stopped" in detail else None


def runs(pid: int) -> bool:
    """Whether the process still runs. A zombie, whose parent has not waited for it yet, does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Sends SIGTERM to all processes, the front first, and kills those that still run after `DRAIN_WITHIN`."""
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
