"""Reports the figures: a table in the terminal, and JSON in `results/latest.json`."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.result import Result

LATEST = Path(__file__).parent / "results" / "latest.json"


def write(results: Sequence[Result], path: Path = LATEST) -> None:
    """Writes the rows. Rows of an earlier run that were not measured now stay as they are."""
    rows = {row.name: row for row in earlier(path)} | {row.name: row for row in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(rows.values())), indent=2) + b"\n")


def earlier(path: Path) -> list[Result]:
    """Returns the rows of the last run, or none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Result])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def show(results: Sequence[Result], console: Console) -> None:
    """Prints the table, and then a line for each missed goal."""
    table = Table(title="Footfall, measured", title_justify="left")
    for heading in ("what", "value", "reference", "ratio", "goal", ""):
        table.add_column(
            heading, justify="right" if heading in ("value", "ratio") else "left", no_wrap=heading == "what"
        )
    for row in results:
        table.add_row(
            row.name,
            f"{number(row.value)} {row.unit}",
            "" if row.reference is None else f"{number(row.reference_value)}  {row.reference}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.goal or "",
            {True: "[green]met", False: "[bold red]missed", None: ""}[row.met],
        )
    console.print(table)
    for row in missed(results):
        measured = row.value if row.ratio is None else row.ratio
        console.print(f"[bold red]Missed[/]: {row.name} is {number(measured)}, its goal is {row.goal}.")


def missed(results: Sequence[Result]) -> list[Result]:
    """Returns the rows that do not reach their goal."""
    return [row for row in results if row.met is False]


def number(value: float | None) -> str:
    """Formats a number: large ones without decimals, small ones with three significant digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
