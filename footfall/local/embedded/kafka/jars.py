"""Fetches Apache Kafka's jars once from Maven Central with jgo, and checks them against pinned SHA-256 digests.

All state directories of a user share them.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import stamina
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from footfall.local.embedded.paths import open_cache
from footfall.local.embedded.stack_error import StackError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.4.0"
MAVEN_REPOSITORY = "https://repo.maven.apache.org/maven2"
PINS = Path(__file__).with_name("jars.pins")
FETCH_ATTEMPTS = 3  # for each jar
PARALLEL_FETCHES = 4
PARALLEL_DIGESTS = 2
PLAIN_REPORT_STEP = 10_000_000  # bytes between two lines where there is no terminal

Advance = Callable[[int], None]  # called with the number of bytes that arrived


@dataclass(frozen=True)
class Pin:
    """The expected digest and size of one jar, and its Maven coordinate."""

    sha256: str
    size: int  # bytes
    group: str
    artifact: str
    version: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def repository_path(self) -> Path:
        return Path(*self.group.split("."), self.artifact, self.version, self.file_name)


def ensure_kafka_jars(console: Console) -> Path:
    """Returns the directory with all jars of the broker; fetches them if it is missing or incomplete.

    Only the first call on a machine uses the network (about 45 MB), and one that finds a jar which is not the pinned
    one. Raises StackError if the fetch fails.
    """
    directory = open_cache() / jars_name()
    pins = read_pins()
    if not is_complete(directory, pins):
        with only_one_fetcher(directory, console):
            if not is_complete(directory, pins):  # the process that held the lock may have fetched them
                fetch(directory, pins, console)
    return directory


def jars_name() -> str:
    """Returns the name of the directory: other pins are another one, so that versions of footfall share the cache."""
    return f"kafka-{KAFKA_VERSION}-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:8]}"


def read_pins() -> list[Pin]:
    rows = [line.split() for line in PINS.read_text().splitlines() if not line.startswith("#")]
    return [Pin(sha256, int(size), *coordinate.split(":")) for sha256, size, coordinate in rows]


def is_complete(directory: Path, pins: list[Pin]) -> bool:
    """Whether the pinned jars are there, each with its digest, and no other jar, which a broker would load as well.

    All bytes are read at every start (0.1 s): size and times of a file can be kept by whoever changes it.
    """
    if {jar.name for jar in directory.glob("*.jar")} != {pin.file_name for pin in pins}:
        return False
    with ThreadPoolExecutor(PARALLEL_DIGESTS) as pool:
        return all(pool.map(lambda pin: is_pinned(directory / pin.file_name, pin), pins))


@contextmanager
def only_one_fetcher(directory: Path, console: Console) -> Iterator[None]:
    with directory.with_name(f"{directory.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"Waiting for another process that fetches Apache Kafka {KAFKA_VERSION}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(directory: Path, pins: list[Pin], console: Console) -> None:
    staging = directory.with_name(f"{directory.name}.part")
    try:
        jars = fetch_jars(staging, pins, console)
        install(jars, directory, staging)
    except (OSError, RuntimeError) as error:
        raise StackError(
            f"Apache Kafka {KAFKA_VERSION} (45 MB, org.apache.kafka:kafka_2.13 and what it needs) could not be fetched "
            f"from Maven Central, {MAVEN_REPOSITORY}: {error}. It is needed once; later starts use "
            f"no network. Check the connection and any proxy (HTTPS_PROXY), then run this again."
        ) from error


def fetch_jars(staging: Path, pins: list[Pin], console: Console) -> list[Path]:
    """Fetches all jars into `staging`, which may hold jars of an interrupted fetch."""
    # Importing jgo takes 0.3 s, and only the first start needs it.
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    with (
        download_progress(console, sum(pin.size for pin in pins)) as advance,
        ThreadPoolExecutor(PARALLEL_FETCHES) as pool,
    ):
        resolver = PythonResolver(progress_callback=lambda _name, _size: counted(advance))
        context = MavenContext(
            resolver=resolver, repo_cache=staging, local_repos=[], remote_repos={"central": MAVEN_REPOSITORY}
        )
        return list(pool.map(lambda pin: fetch_jar(context, staging / pin.repository_path, pin, advance), pins))


@stamina.retry(on=(OSError, RuntimeError), attempts=FETCH_ATTEMPTS)
def fetch_jar(context: "MavenContext", jar: Path, pin: Pin, advance: Advance) -> Path:
    """Fetches one jar into jgo's repository, where its path is `jar`.

    jgo only warns of a wrong checksum. Raises StackError if Maven Central, or a proxy in between, sends another file.
    """
    if is_pinned(jar, pin):
        advance(pin.size)
        return jar
    jar.unlink(missing_ok=True)  # jgo would take an incomplete jar for a complete one
    context.project(pin.group, pin.artifact).at_version(pin.version).artifact().resolve()
    if not is_pinned(jar, pin):
        raise StackError(
            f"{pin.file_name}, as fetched, is not the one this version of footfall was made with (see {PINS}). "
            f"Look for a proxy or a Maven mirror that changes files, then run this again."
        )
    return jar


def is_pinned(jar: Path, pin: Pin) -> bool:
    try:
        with jar.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256
    except OSError:
        return False


def install(jars: list[Path], directory: Path, staging: Path) -> None:
    """Moves all jars into `directory` by one rename, so that it is complete or absent."""
    complete = staging / "complete"
    shutil.rmtree(complete, ignore_errors=True)
    complete.mkdir()
    for jar in jars:
        jar.replace(complete / jar.name)
    shutil.rmtree(directory, ignore_errors=True)
    complete.replace(directory)
    shutil.rmtree(staging)


@contextmanager
def counted(advance: Advance) -> Iterator[Advance]:
    """Yields `advance`: the context manager that jgo expects around the download of each file."""
    yield advance


@contextmanager
def download_progress(console: Console, total_bytes: int) -> Iterator[Advance]:
    """Shows a progress bar in a terminal, or a line every 10 MB elsewhere; yields the function that advances it."""
    title = f"Fetching Apache Kafka {KAFKA_VERSION} (once)"
    if not console.is_terminal:
        console.print(f"{title}: {total_bytes / 1e6:.0f} MB from Maven Central")
        yield plain_lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total_bytes)
        yield lambda count: bar.update(task, advance=count)


def plain_lines(console: Console) -> Advance:
    arrived = 0

    def advance(count: int) -> None:
        nonlocal arrived
        before, arrived = arrived, arrived + count
        if before // PLAIN_REPORT_STEP != arrived // PLAIN_REPORT_STEP:
            console.print(f"  {arrived / 1e6:.0f} MB")

    return advance
