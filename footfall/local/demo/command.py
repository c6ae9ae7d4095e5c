"""Starts everything, runs the demo, prints the report, and stops everything, or leaves it running."""

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from footfall.cli.called_as import as_called
from footfall.local.demo.account import Account, DemoOptions
from footfall.local.demo.report import report
from footfall.local.demo.run import run_demo
from footfall.local.running import Running, RunOptions, running_footfall
from footfall.local.up import console_line, end_on_signals, run_on


def demo(run: RunOptions, options: DemoOptions, console: Console, *, keep: bool = False) -> int:
    """Runs the demo.

    Args:
        run: How to run Footfall.
        options: What to post.
        console: Where the report goes.
        keep: Afterwards everything runs on until SIGINT or SIGTERM.

    Returns:
        0 if exactly the accepted events were projected. 1 if not, or if something ended by itself. 130 if a signal came
        before the report.
    """
    end_on_signals()
    account: Account | None = None
    try:
        with running_footfall(run, console) as running:
            account = post_a_day(running, options, console)
            console.print(after(run, running, keep=keep), soft_wrap=True, highlight=False)
            if keep:
                run_on(running, console)
                return 1
    except KeyboardInterrupt:
        console.print("Interrupted." if account is None else "Stopped.")
        if account is None:
            return 130
    return 0 if account.exact() else 1


def post_a_day(running: Running, options: DemoOptions, console: Console) -> Account:
    """Posts everything, shows how far it is, and prints the report."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console.print(f"Footfall is up at {running.front}; sending {options.events:,} events of {options.users:,} users.")
    with Progress(*columns, console=console) as progress:
        account = uvloop.run(run_demo(running, options, progress))
    report(account, options, console)
    return account


def after(run: RunOptions, running: Running, *, keep: bool) -> str:
    """Returns what can be looked at now, or how to get there."""
    if keep:
        where = f"Front {running.front}\n{console_line(running)}"
        return f"\n[bold]Everything runs on, with the day's data.[/bold]   (Ctrl-C stops everything)\n{where}"
    return as_called(
        "To look around in the console: footfall demo --keep leaves everything running after the next day;\n"
        f"with the data of this one: footfall up --state-dir {run.state_dir}"
    )
