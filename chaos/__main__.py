"""`python -m chaos` (or `make chaos`): tries to break Footfall, and exits 1 when anything is lost, doubled or wrong."""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import rich_click as click
from rich.console import Console
from rich.table import Table

from chaos import campaigns
from chaos.campaigns import Campaign, Round
from chaos.cluster import ChaosError, prepare
from chaos.mutants import MUTANTS
from chaos.rebuilding import rebuild
from chaos.servers import servers
from footfall.local.embedded import StackError

CAMPAIGNS: dict[str, Callable[[Campaign], list[Round]]] = {
    "short": campaigns.short,
    "kills": campaigns.kills,
    "commits": campaigns.commits,
    "zombies": campaigns.zombies,
    "stalls": campaigns.stalls,
    "rebuild": rebuild,
    "mutants": campaigns.all_mutants,
}
RESULTS = Path(__file__).with_name("results")
PLAIN_WIDTH = 150  # columns of the table where nobody's terminal says


def _list(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name, run in CAMPAIGNS.items():
            click.echo(f"{name:<10} {run.__doc__}")
        context.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--campaign", type=click.Choice(list(CAMPAIGNS)), default="short", show_default=True)
@click.option("--mutants", is_flag=True, help="The same as --campaign mutants.")
@click.option("--seed", type=int, help="Repeats a schedule.  [default: a new one, which is printed]")
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1, 1_000), help="Of campaign short.")
@click.option("--write", is_flag=True, help="Keep the figures in chaos/results/CAMPAIGN.json.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and histories there.")
@click.option("--only", multiple=True, type=click.Choice(list(MUTANTS)), metavar="NAME", help="These mutants alone.")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="Name the campaigns.")
def main(
    campaign: str,
    mutants: bool,
    seed: int | None,
    rounds: int,
    write: bool,
    logs: Path | None,
    only: tuple[str, ...],
) -> None:
    """Kill, freeze, cut off and starve real servers and processes under load, then account for every event.

    A checker that shares no code with Footfall compares what was acknowledged, what Kafka holds and what PostgreSQL
    holds. Exit 0: nothing lost, doubled, invented, reordered, altered or miscounted; and every mutant caught.
    """
    name = "mutants" if mutants or only else campaign
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    console = Console(stderr=True)
    again = f"python -m chaos --campaign {name} --seed {seed}" + (f" --rounds {rounds}" if rounds > 1 else "")
    console.print(f"seed {seed}; the same schedule again: [bold]{again}[/bold]", highlight=False)
    started = time.monotonic()
    try:
        with servers(console, logs) as (found, directory):
            prepare(found)
            if not found.disk_mounted:
                console.print("A file system of its own could not be mounted: [bold]a full disk is not run[/bold].")
            results = CAMPAIGNS[name](Campaign(found, directory, console, seed, rounds, only or tuple(MUTANTS)))
    except (ChaosError, StackError) as error:
        console.print(f"[bold red]chaos:[/] {error}\nThe same, logs kept: {again} --logs DIR", highlight=False)
        sys.exit(2)
    show(results, Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH))
    console.print(f"took {time.monotonic() - started:.0f} s", highlight=False)
    if write:
        keep(name, again, results)
    if not all(result.passed for result in results):
        console.print(
            f"[bold red]chaos:[/] failed. The same schedule again, logs kept: {again} --logs DIR", highlight=False
        )
        sys.exit(1)


def show(results: list[Round], console: Console) -> None:
    """A table, and the first examples of what should not be."""
    table = Table("round", "seconds", "acknowledged", "unknown", "records", "rows", "fenced", "found", "")
    for result in results:
        found = result.verdict
        kinds = ", ".join(f"{kind} {count}" for kind, count in found.findings.items()) or "nothing wrong"
        passed = "[green]passed[/green]" if result.passed else "[red]FAILED[/red]"
        numbers = (found.acknowledged, found.unknown, found.records, found.rows, found.fenced)
        table.add_row(result.name, f"{result.seconds:.0f}", *(f"{number:,}" for number in numbers), kinds, passed)
    console.print(table)
    for result in results:
        if result.done:
            done = ", ".join(f"{what} {count}" for what, count in sorted(result.done.items()))
            console.print(f"{result.name}: {done}", highlight=False)
        for what, count in result.not_run.items():
            console.print(f"{result.name}: [bold]not run[/bold]: {what} ({count})", highlight=False)
        if not result.passed:
            for kind, examples in result.verdict.examples.items():
                for example in examples:
                    console.print(f"[red]{kind}[/red]: {example}", highlight=False)


def keep(name: str, again: str, results: list[Round]) -> None:
    """Writes the figures, without the examples of caught mutants."""
    RESULTS.mkdir(exist_ok=True)
    rounds = [msgspec.to_builtins(result) for result in results]
    for found in rounds:
        if found["passed"]:
            del found["verdict"]["examples"]
    told = {"command": again, "on": time.strftime("%Y-%m-%d", time.gmtime()), "rounds": rounds}
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
