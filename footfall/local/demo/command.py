"""Brings everything up, runs the demo on it, reports, and takes everything down."""

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from footfall.local.demo.report import report
from footfall.local.demo.run import DemoOptions, run_demo
from footfall.local.running import RunOptions, running_footfall
from footfall.local.up import obey_signals


def demo(run: RunOptions, options: DemoOptions, console: Console) -> int:
    """Returns 0 when accepted = projected exactly, 1 otherwise, 130 when interrupted."""
    obey_signals()
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with running_footfall(run, console) as running:
            console.print(
                f"Footfall is up at {running.front}; sending {options.events:,} events of {options.users:,} users."
            )
            with Progress(*columns, console=console) as progress:
                account = uvloop.run(run_demo(running, options, progress))
            report(account, options, console)
            return 0 if account.exact() else 1
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
