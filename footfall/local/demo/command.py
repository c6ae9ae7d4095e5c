"""Starts everything, runs the demo, prints the report, and stops everything."""

import time

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from footfall.local.demo.account import DemoOptions
from footfall.local.demo.report import report
from footfall.local.demo.run import run_demo
from footfall.local.running import Running, RunOptions, running_footfall
from footfall.local.up import WATCH, end_on_signals


def demo(run: RunOptions, options: DemoOptions, console: Console, *, keep: bool = False) -> int:
    """Runs the demo. `keep`: afterwards everything runs on until Ctrl-C.

    Returns 0 if exactly the accepted events were projected, 1 if not, 130 if interrupted.
    """
    end_on_signals()
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with running_footfall(run, console) as running:
            console.print(
                f"Footfall is up at {running.front}; sending {options.events:,} events of {options.users:,} users."
            )
            with Progress(*columns, console=console) as progress:
                account = uvloop.run(run_demo(running, options, progress))
            report(account, options, console)
            if keep:
                console.print(f"\nEverything goes on running, with the day's data: {running.console}/console")
                console.print("Ctrl-C stops it.")
                watch(running)
            else:
                console.print("To look around in the console afterwards: make demo ARGS=--keep")
            return 0 if account.exact() else 1
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130


def watch(running: Running) -> None:
    """Returns when something ends by itself."""
    while not running.ended():
        time.sleep(WATCH)
