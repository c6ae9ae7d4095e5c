"""Prints generations and comparisons: the output of `footfall rebuild`."""

from datetime import timedelta
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from operations.rebuild.operator import Operator
from operations.rebuild.status import Progress as GenerationProgress
from operations.rebuild.status import progress_of_all
from operations.rebuild.verify import Verification
from read_model.generations.register import BUILT

CAUGHT_UP = 100  # a build this many events behind counts as caught up, because the log grows all the time
SHOWN_KEYS = 20  # differing keys that are shown of each table


def table(stands: list[GenerationProgress]) -> Group:
    """Lays out every generation, and the partitions of the one that is being built."""
    found = Table("generation", "state", "progress", "behind", "events/s", "time left", "verified")
    for stand in stands:
        found.add_row(
            stand.name,
            stand.state + (" (held)" if stand.held else ""),
            f"{stand.progress:.1%}",
            f"{stand.behind:,}",
            rate(stand),
            time_left(stand),
            "yes" if stand.verified else "",
        )
    return Group(found, *(partitions(stand) for stand in stands if stand.state in BUILT))


def partitions(stand: GenerationProgress) -> Table:
    """Lays out the partitions of one generation."""
    found = Table("partition", "next offset", "end", "done", "owner", "stopped", title=stand.name, title_justify="left")
    for p in stand.partitions:
        done = p.next_offset / p.end_offset if p.end_offset else 1.0
        cells = (f"{p.next_offset:,}", f"{p.end_offset:,}", f"{done:.1%}", p.owner, p.stopped_reason or "")
        found.add_row(str(p.partition), *cells)
    return found


def rate(stand: GenerationProgress) -> str:
    """Formats the events a second now, and the cap."""
    now = "" if stand.events_per_second is None else f"{stand.events_per_second:,.0f}"
    return now if stand.max_rate is None else f"{now} (cap {stand.max_rate:,})"


def time_left(stand: GenerationProgress) -> str:
    """Formats the time until the build reaches the end that the log has now."""
    return "" if stand.seconds_left is None else str(timedelta(seconds=round(stand.seconds_left)))


async def watch(operator: Operator, console: Console) -> None:
    """Shows a progress bar until the build has reached the end of the log."""
    name = (await operator.under_construction()).name
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}/s  {task.fields[left]}"), console=console) as bar:
        task = bar.add_task(name, rate="", left="")
        while True:
            stand = next((s for s in await progress_of_all(operator) if s.name == name), None)
            if stand is None:
                console.print(f"{name} was dropped.")
                return
            done = sum(p.next_offset for p in stand.partitions)
            total = done + stand.behind
            text = f"{name} {stand.state}"
            bar.update(task, completed=done, total=total, description=text, rate=rate(stand), left=time_left(stand))
            if stand.behind <= CAUGHT_UP or stand.state not in BUILT:
                return


def facts(found: Verification) -> dict[str, Any]:
    """Returns a comparison as plain data, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def verification(found: Verification) -> Group:
    """Lays out a comparison as a table, and the keys that differ."""
    rows = Table("table", found.old, found.new, "", title=f"{found.new} against {found.old}", title_justify="left")
    for one in found.tables:
        verdict = "equal" if one.equal else f"{len(one.differing)} of 256 buckets differ"
        rows.add_row(one.table, f"{one.rows_old:,}", f"{one.rows_new:,}", verdict)
    where = ", ".join(f"{p}: {offset:,}" for p, offset in found.at.items())
    lines = [line for one in found.tables for line in _differences(one)]
    lines.append(f"Compared at the offsets {where}; {found.old} stood still for {found.stood_still * 1000:.0f} ms.")
    if found.skipped:
        lines.append(f"Not compared: {', '.join(found.skipped)}.")
    lines.append(f"{found.new} is verified." if found.equal else f"{found.new} is NOT equal to {found.old}.")
    return Group(rows, *lines)


def _differences(one: Any) -> list[str]:
    named = [(bucket.number, key) for bucket in one.differing for key in bucket.keys]
    lines = [f"{one.table}, bucket {number}: {key.how} {key.key}" for number, key in named[:SHOWN_KEYS]]
    return lines + ([f"{one.table}: and more"] if len(named) > SHOWN_KEYS else [])
