"""Runs real servers on fresh state for the benchmarks, and processes that end with their `with` block."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from pydantic import SecretStr
from rich.console import Console

from footfall.local.embedded import StackAddresses, StackOptions, embedded_stack, spawn_child
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate

READY_WITHIN = 240.0  # seconds
END_WITHIN = 60.0  # seconds after SIGTERM
WORK_WITHIN = 1_800.0  # seconds for one measuring process
POLL = 0.02  # seconds

NOTHING: Mapping[str, str] = {}

Answer = TypeVar("Answer", bound=msgspec.Struct)


class StageError(Exception):
    """A process of a benchmark did not start or did not finish; the text says which and shows the end of its log."""


@dataclass(frozen=True)
class Stage:
    """The servers, the directory for logs, the number of runs for each figure, and the console for progress.

    `sizes`: numbers of stored events that the benchmarks of growth are asked for; empty: their own.
    """

    stack: StackAddresses
    directory: Path
    runs: int
    console: Console
    sizes: tuple[int, ...] = ()

    def say(self, text: str) -> None:
        """Prints one line of progress."""
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}", highlight=False)

    def topic(self, name: str, partitions: int = 6) -> str:
        """Makes a new topic and returns its name."""
        settings = TopicSettings(
            kafka_bootstrap_servers=self.stack.kafka_bootstrap,
            kafka_topic=name,
            kafka_dlq_topic=f"{name}-dlq",
            kafka_partitions=partitions,
        )
        create_topics(settings)
        return name

    def migrated(self, database_url: str) -> str:
        """Migrates the database and returns the same URL."""
        migrate(MigrateSettings(database_url=SecretStr(database_url)))
        return database_url

    @contextmanager
    def process(
        self, name: str, module: str, *arguments: str, port: int | None = None, environment: Mapping[str, str] = NOTHING
    ) -> "Iterator[subprocess.Popen[bytes]]":
        """Runs `python -m module arguments` during the body, which begins once `port` accepts connections."""
        log_path = self.directory / f"{name}.log"
        process = spawn_child(
            [sys.executable, "-m", module, *arguments],
            death_signal=signal.SIGKILL,
            env=self.environment(environment),
            log_path=log_path,
        )
        try:
            if port is not None:
                wait_for_port(port, process, log_path)
            yield process
        finally:
            end(process)

    def work(self, module: str, task: msgspec.Struct, result: type[Answer]) -> Answer:
        """Runs `python -m module '<task as JSON>'` to its end and returns the JSON in its last line of output."""
        command = [sys.executable, "-m", module, msgspec.json.encode(task).decode()]
        try:
            done = subprocess.run(
                command, env=self.environment({}), capture_output=True, timeout=WORK_WITHIN, check=True
            )
        except subprocess.CalledProcessError as error:
            raise StageError(f"{module} failed:\n{error.stderr.decode(errors='replace')[-2000:]}") from error
        except subprocess.TimeoutExpired as error:
            raise StageError(f"{module} took longer than {WORK_WITHIN:g} s") from error
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=result)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Returns this process's environment with Kafka's address and `more`."""
        return {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self.stack.kafka_bootstrap, "LOG_LEVEL": "WARNING", **more}


@contextmanager
def stage(runs: int, console: Console, sizes: tuple[int, ...] = ()) -> Iterator[Stage]:
    """Runs Kafka and PostgreSQL with durable settings on new state during the body; removes everything afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="footfall-bench-"))
    try:
        with embedded_stack(StackOptions(directory / "state", free_port(), free_port()), console) as stack:
            yield Stage(stack, directory, runs, console, sizes)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """Returns a loopback port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    """Waits until the port accepts connections. Raises StageError with the end of the log if it does not."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise StageError(f"not ready, see the end of its log:\n{log_path.read_text(errors='replace')[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(POLL)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Sends SIGTERM to the process, and kills it if it still runs after `END_WITHIN`."""
    process.terminate()
    try:
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
