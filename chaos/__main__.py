"""`python -m chaos` (or `make chaos`): injects faults; exits 1 if any event is lost, doubled or wrong."""

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

from chaos.attacks import campaigns
from chaos.attacks.brokers import cluster
from chaos.attacks.campaigns import Campaign, Round
from chaos.attacks.rebuilding import rebuild
from chaos.planted.mutants import MUTANTS
from chaos.stand.cluster import ChaosError
from chaos.stand.rounds import prepare
from chaos.stand.servers import servers
from footfall.local.embedded import StackError

CAMPAIGNS: dict[str, Callable[[Campaign], list[Round]]] = {
    "short": campaigns.short,
    "kills": campaigns.kills,
    "commits": campaigns.commits,
    "zombies": campaigns.zombies,
    "stalls": campaigns.stalls,
    "rebuild": rebuild,
    "cluster": cluster,
    "mutants": campaigns.all_mutants,
}
BROKERS = {"cluster": 3}
RESULTS = Path(__file__).with_name("results")
PLAIN_WIDTH = 150  # columns of the table if the output is not a terminal


def _list(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name, run in CAMPAIGNS.items():
            click.echo(f"{name:<10} {run.__doc__}")
        context.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--campaign",
    type=click.Choice(list(CAMPAIGNS)),
    default="short",
    show_default=True,
    help="What to do; --list explains each.",
)
@click.option("--mutants", is_flag=True, help="The same as --campaign mutants.")
@click.option("--seed", type=int, help="Repeat the schedule of this seed.  [default: a new seed, which is printed]")
@click.option(
    "--rounds", default=1, show_default=True, type=click.IntRange(1, 1_000), help="Rounds of the campaign `short`."
)
@click.option("--write", is_flag=True, help="Write the figures to chaos/results/CAMPAIGN.json.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and histories here.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(MUTANTS)), metavar="NAME", help="Run this mutant; may be repeated."
)
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List the campaigns.")
def main(
    campaign: str,
    mutants: bool,
    seed: int | None,
    rounds: int,
    write: bool,
    logs: Path | None,
    only: tuple[str, ...],
) -> None:
    """Kill, freeze, disconnect and starve real servers and processes under load, then account for every event.

    A checker that shares no code with Footfall compares the acknowledged events, the log in Kafka and the rows in
    PostgreSQL.

    \b
    Exit codes:
      0  nothing is lost, doubled, invented, reordered, altered or miscounted, and every mutant was caught
      1  something is wrong
      2  the harness itself failed
    Examples:
      python -m chaos
      python -m chaos --campaign kills --seed 17 --logs /tmp/chaos
      python -m chaos --only "no fence"
    """
    name = "mutants" if mutants or only else campaign
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    console = Console(stderr=True)
    again = f"python -m chaos --campaign {name} --seed {seed}" + (f" --rounds {rounds}" if rounds > 1 else "")
    console.print(f"seed {seed}; the same schedule again: [bold]{again}[/bold]", highlight=False)
    started = time.monotonic()
    try:
        with servers(console, logs, BROKERS.get(name, 1)) as (found, directory):
            prepare(found)
            if not found.disk_mounted:
                console.print(
                    "No separate file system could be mounted for PostgreSQL: [bold]the full disk is not tested[/bold]."
                )
            results = CAMPAIGNS[name](Campaign(found, directory, console, seed, rounds, only or tuple(MUTANTS)))
    except (ChaosError, StackError) as error:
        console.print(
            f"[bold red]chaos:[/] {error}\nTo repeat it and keep the logs: {again} --logs DIR", highlight=False
        )
        sys.exit(2)
    show(results, Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH))
    console.print(f"took {time.monotonic() - started:.0f} s", highlight=False)
    if write:
        keep(name, again, results)
    if not all(result.passed for result in results):
        console.print(
            f"[bold red]chaos:[/] failed. To repeat the schedule and keep the logs: {again} --logs DIR", highlight=False
        )
        sys.exit(1)


def show(results: list[Round], console: Console) -> None:
    """Prints a table of the rounds, and examples of each finding."""
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
    """Writes the figures of the rounds, without the examples of those that passed (caught mutants have findings)."""
    RESULTS.mkdir(exist_ok=True)
    rounds = [msgspec.to_builtins(result) for result in results]
    for found in rounds:
        if found["passed"]:
            del found["verdict"]["examples"]
    figures = {"command": again, "on": time.strftime("%Y-%m-%d", time.gmtime()), "rounds": rounds}
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
