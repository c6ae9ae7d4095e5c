"""Prints a status as tables or as JSON: the output of `footfall status`."""

import asyncio
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from contracts.types import Catalogue, is_named
from footfall.processes.environment import load_catalogue
from operations.status.observer import observing
from operations.status.report import GenerationStatus, PartitionStatus, SinkStatus, Status
from projector.settings import ProjectorSettings
from read_model.wire_time import encoded

WATCH_INTERVAL = 2.0  # seconds
WELL, NOT_WELL = 0, 1  # exit codes
STYLES = {"running": "cyan", "idle": "green", "held": "yellow", "paused": "yellow", "joining": "yellow"}


def show(settings: ProjectorSettings, *, as_json: bool, watch: bool, max_lag: int | None) -> int:
    """Prints the status once, or every two seconds until Ctrl-C with `watch`, and returns the exit code."""
    try:
        return asyncio.run(_watch(settings, as_json, max_lag) if watch else _once(settings, as_json, max_lag))
    except KeyboardInterrupt:
        return WELL


async def _once(settings: ProjectorSettings, as_json: bool, max_lag: int | None) -> int:
    async with observing(settings, _own_catalogue(settings)) as observer:
        status = await observer.status(max_lag)
    if as_json:
        _print_json(status)
    else:
        Console().print(tables(status))
    return NOT_WELL if status.problems else WELL


async def _watch(settings: ProjectorSettings, as_json: bool, max_lag: int | None) -> int:
    async with observing(settings, _own_catalogue(settings)) as observer:
        with Live(console=Console(), auto_refresh=False) as live:
            while True:
                status = await observer.status(max_lag)
                if as_json:
                    _print_json(status)
                else:
                    live.update(tables(status), refresh=True)
                await asyncio.sleep(WATCH_INTERVAL)


def _own_catalogue(settings: ProjectorSettings) -> Catalogue | None:
    file = settings.event_types_file
    return load_catalogue(file) if is_named(file) else None


def _print_json(status: Status) -> None:
    print(encoded(status).decode(), flush=True)


def tables(status: Status) -> Group:
    """Lays a whole status out for a terminal."""
    parts: list[Table | Text] = [Text(f"{status.topic}, {status.at:%Y-%m-%d %H:%M:%S} UTC", style="bold")]
    parts += [_generation(found) for found in status.generations]
    if status.event_types:
        parts.append(Text(f"event types: {', '.join(status.event_types)}"))
    parts.append(_letters(status))
    parts += [part for found in status.sinks for part in _sink(found)]
    parts += [Text(f"! {problem}", style="bold red") for problem in status.problems]
    if (known := status.misplaced.sentence()) is not None:
        parts.append(Text(known, style="yellow"))
    parts += [Text(warning, style="yellow") for warning in status.warnings]
    if not status.problems:
        parts.append(Text("All is well.", style="green"))
    return Group(*parts)


def _generation(found: GenerationStatus) -> Table | Text:
    progress = "" if found.progress is None else f", {found.progress:.1%} of the log"
    title = f"{found.name}: {found.state}{progress}"
    if not found.partitions:
        return Text(f"{title} (this role may not read its checkpoints)" if found.progress is None else title)
    return _partitions(title, found.partitions)


def _sink(found: SinkStatus) -> list[Table | Text]:
    progress = "" if found.progress is None else f", {found.progress:.1%} of the log"
    parts: list[Table | Text] = [_partitions(f"{found.name}: sink{progress}", found.partitions)]
    if found.parked:
        parts.append(Text(f"{found.parked:,} dead letters of {found.name} wait (footfall dlq list --sink ..)."))
    return parts


def _partitions(title: str, partitions: list[PartitionStatus]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("partition", "checkpoint", "end", "lag", "lag, time"):
        table.add_column(heading, justify="right")
    for heading in ("state", "owner", "reason"):
        table.add_column(heading, overflow="fold")
    for each in partitions:
        table.add_row(*_row(each))
    return table


def _row(each: PartitionStatus) -> list[Text]:
    state = Text(each.state, style=STYLES.get(each.state, "yellow" if each.well else "bold red"))
    numbers = [str(each.partition), _number(each.checkpoint), _number(each.end_offset), _number(each.lag)]
    age = "?" if each.lag_seconds is None else _age(each.lag_seconds)
    return [*map(Text, numbers), Text(age), state, Text(each.owner or "-"), Text(each.reason or "")]


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _age(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _letters(status: Status) -> Table | Text:
    if not status.dead_letters:
        return Text("No dead letters.")
    table = Table(title="dead letters", title_justify="left")
    table.add_column("cause")
    table.add_column("state")
    table.add_column("letters", justify="right")
    for found in status.dead_letters:
        table.add_row(found.cause, found.state, f"{found.count:,}")
    return table
