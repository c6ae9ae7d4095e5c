"""`footfall doctor`: what is wrong, or soon will be, and what to do."""

import asyncio
import sys
from typing import TYPE_CHECKING

import rich_click as click

from footfall.cli.options import state_dir_option

if TYPE_CHECKING:
    from operations.doctor.findings import Finding

EXIT_CODES = {"well": 0, "warning": 0, "problem": 1, "unknown": 2}
MARKS = {
    "well": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "problem": ("problem", "bold red"),
    "unknown": ("?", "yellow"),
}


@click.command()
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
@click.option("--strict", is_flag=True, help="A warning is a problem, too (exit code 1).")
def doctor(as_json: bool, strict: bool) -> None:
    """Look at PostgreSQL, Kafka and the projectors, and say what is wrong and what to do.

    It is safe to run at any time, as any of Footfall's roles, and changes nothing. A role that is a member of
    pg_monitor sees more.

    \b
    Exit codes:
      0  nothing is wrong (warnings are shown)
      1  something is wrong
      2  something could not be looked at
    Examples:
      footfall doctor
      footfall doctor --json --strict     for a monitoring job
    """
    from contracts.types import is_named
    from footfall.cli.sealed.key_store import operator_keys
    from footfall.cli.settings import operator_settings
    from footfall.processes.environment import load_catalogue
    from operations.doctor import examine
    from operations.doctor.findings import worst
    from projector.settings import ProjectorSettings

    settings = operator_settings(ProjectorSettings, "owner")
    file = settings.event_types_file
    findings = asyncio.run(examine.examine(settings, load_catalogue(file) if is_named(file) else None, operator_keys()))
    if as_json:
        click.echo(examine.as_json(findings))
    else:
        show(findings)
    verdict = worst(findings)
    sys.exit(1 if strict and verdict == "warning" else EXIT_CODES[verdict])


def show(findings: "list[Finding]") -> None:
    """Prints a table, and the remedies below it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for found in findings:
        mark, style = MARKS[found.verdict]
        table.add_row(
            Text(mark, style=style), Text(found.check), Text(" ".join(filter(None, (found.says, found.remedy))))
        )
    Console().print(table)
