"""Apache Kafka's jars: fetched once from Maven Central by jgo, checked against pinned SHA-256, shared by all states."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import stamina
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from footfall.embedded.places import open_cache
from footfall.embedded.stack_error import StackError

KAFKA_VERSION = "4.4.0"
# Kafka 4.4 logs through slf4j-api 1.7; without a binding of that line its log is empty.
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
PINS = Path(__file__).with_name("kafka_jars.sha256")  # lines: sha256, size in bytes, file name
FETCH_ATTEMPTS = 3
PLAIN_REPORT_STEP = 10_000_000  # bytes between two lines where there is no terminal


@dataclass(frozen=True)
class Pin:
    """What one jar must be."""

    sha256: str
    size: int  # bytes
    name: str


def ensure_kafka_jars(console: Console) -> Path:
    """The directory with every jar of the broker; fetched where it is missing or incomplete.

    Only the first call on a machine uses the network (about 44 MB). Raises StackError if the fetch fails.
    """
    directory = open_cache() / f"kafka-{KAFKA_VERSION}"
    pins = read_pins()
    if is_complete(directory, pins):
        return directory
    with directory.with_name(directory.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(directory, pins):  # another first start may have fetched them while we waited
            fetch(directory, pins, console)
    return directory


def read_pins() -> list[Pin]:
    rows = [line.split() for line in PINS.read_text().splitlines()]
    return [Pin(sha256, int(size), name) for sha256, size, name in rows]


def is_complete(directory: Path, pins: list[Pin]) -> bool:
    """The directory appears by one rename, after the digests were checked; the sizes notice what was harmed since."""
    try:
        return all((directory / pin.name).stat().st_size == pin.size for pin in pins)
    except OSError:
        return False


def fetch(directory: Path, pins: list[Pin], console: Console) -> None:
    staging = directory.with_name(directory.name + ".part")
    jars: dict[str, Path] = {}
    try:
        for attempt in stamina.retry_context(on=(OSError, RuntimeError), attempts=FETCH_ATTEMPTS, timeout=None):
            with attempt:
                shutil.rmtree(staging, ignore_errors=True)  # an interrupted download leaves half a jar behind
                jars = resolve(staging, sum(pin.size for pin in pins), console)
    except (OSError, RuntimeError) as error:
        raise StackError(
            f"Apache Kafka {KAFKA_VERSION} (about 44 MB of jars, {ENDPOINT}) could not be fetched from Maven Central "
            f"(https://repo.maven.apache.org/maven2): {error}. It is needed once; later starts use no network. "
            f"Check the connection and any proxy (HTTPS_PROXY), then run this again."
        ) from error
    check_digests(jars, pins)
    install(jars, directory, staging)


def resolve(staging: Path, total_bytes: int, console: Console) -> dict[str, Path]:
    # Importing jgo takes 0.3 s, and only the first start needs it.
    from jgo.env import EnvironmentBuilder, LinkStrategy  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    with download_progress(console, total_bytes) as report:
        context = MavenContext(resolver=PythonResolver(progress_callback=report), repo_cache=staging / "maven")
        builder = EnvironmentBuilder(context=context, link_strategy=LinkStrategy.HARD, cache_dir=staging / "env")
        environment = builder.from_endpoint(ENDPOINT)
    return {jar.name: jar for jar in environment.path.rglob("*.jar")}


def check_digests(jars: dict[str, Path], pins: list[Pin]) -> None:
    found = {(name, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in jars.items()}
    expected = {(pin.name, pin.sha256) for pin in pins}
    if found != expected:
        names = sorted({name for name, _ in found ^ expected})
        raise StackError(
            f"What was fetched is not the Apache Kafka {KAFKA_VERSION} this version of footfall was made with: "
            f"{', '.join(names)} differ from {PINS}. Look for a proxy or a Maven mirror that changes files, "
            f"then run this again."
        )


def install(jars: dict[str, Path], directory: Path, staging: Path) -> None:
    complete = staging / "complete"
    complete.mkdir()
    for name, jar in jars.items():
        jar.replace(complete / name)
    shutil.rmtree(directory, ignore_errors=True)
    complete.replace(directory)
    shutil.rmtree(staging)


Report = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def download_progress(console: Console, total_bytes: int) -> Iterator[Report]:
    """Give jgo's progress callback: a bar on a terminal, a line every 10 MB elsewhere."""
    title = f"Fetching Apache Kafka {KAFKA_VERSION} (once)"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        if not console.is_terminal:
            console.print(f"{title}: {total_bytes / 1e6:.0f} MB from Maven Central")
        yield counting(bar, bar.add_task(title, total=total_bytes), console)


def counting(bar: Progress, task: TaskID, console: Console) -> Report:
    @contextmanager
    def one_file(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    def advance(count: int) -> None:
        before = bar.tasks[0].completed
        bar.update(task, advance=count)
        after = bar.tasks[0].completed
        if not console.is_terminal and before // PLAIN_REPORT_STEP != after // PLAIN_REPORT_STEP:
            console.print(f"  {after / 1e6:.0f} MB")

    return one_file
