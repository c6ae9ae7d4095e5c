"""`footfall rebuild`: its commands, options and confirmations (docs/rebuild.md)."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import rich_click as click
from rich.console import Console

from footfall.cli.called_as import as_called
from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
force_option = click.option(
    "--force", is_flag=True, help="Switch even if the generation is not verified, lags, or is behind what queries show."
)
lag_option = click.option(
    "--max-lag",
    type=click.IntRange(0),
    default=1_000,
    show_default=True,
    help="Refuse a generation that is more events than this behind the end of the log.",
)
wait_option = click.option(
    "--wait",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    help="Seconds to wait for queries that read the views.",
)


@click.group()
def rebuild() -> None:
    """Build the read model again from the log beside the one that serves, compare both, switch, and switch back.

    The projectors that run do the work; queries are served all the time. DATABASE_URL must name the database's owner.
    See docs/rebuild.md.

    \b
    The usual order:
      footfall rebuild start              make an empty generation; projectors fill it
      footfall rebuild status --watch     wait until it has reached the end of the log
      footfall rebuild verify             compare it with the serving generation
      footfall rebuild promote            queries see it; the old one is kept as standby
      footfall rebuild rollback           if something is wrong: queries see the old one again
      footfall rebuild drop               the standby is no longer needed
    """


@rebuild.command()
@state_dir_option
@click.option("--max-rate", type=click.IntRange(1), help="Events a second, over all projectors.  [default: no cap]")
@click.option("--forget-discards", is_flag=True, help="Try records again that `footfall dlq discard` discarded.")
@click.option("--accept-missing", is_flag=True, help="Begin at the topic's oldest records if older ones are gone.")
def start(max_rate: int | None, forget_discards: bool, accept_missing: bool) -> None:
    """Make an empty generation. The projectors that run fill it from offset 0.

    \b
    Examples:
      footfall rebuild start
      footfall rebuild start --max-rate 20000     leave the servers room for queries
    """
    from operations.rebuild import lifecycle as work

    found = run_operator(
        lambda operator: work.start(operator, max_rate, forget_discards=forget_discards, accept_missing=accept_missing)
    )
    click.echo(as_called(f"{found.name} is being built. Follow it: footfall rebuild status --watch"))


@rebuild.command()
@state_dir_option
@click.option("--watch", is_flag=True, help="Show a progress bar until the build has reached the end of the log.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show the state, progress, rate and time left of every generation.

    \b
    Examples:
      footfall rebuild status
      footfall rebuild status --watch     follow the build until it has reached the end of the log
    """
    from footfall.cli.output import rebuild as show
    from operations.rebuild import status as look

    if watch:
        run_operator(lambda operator: show.watch(operator, Console()), exclusive=False)
        return
    found = run_operator(look.progress_of_all, exclusive=False)
    if as_json:
        click.echo(look.as_json(found))
    else:
        Console().print(show.table(found))


@rebuild.command()
@state_dir_option
def pause() -> None:
    """Stop the build for now. What it has built is kept; `footfall rebuild resume` continues it."""
    from operations.rebuild import lifecycle as work

    click.echo(as_called(f"{run_operator(work.pause).name} is paused. Go on: footfall rebuild resume"))


@rebuild.command()
@state_dir_option
@click.option("--max-rate", type=click.IntRange(0), help="New cap, events a second; 0: no cap.  [default: as before]")
def resume(max_rate: int | None) -> None:
    """Continue a paused build, or change the cap of a build that runs.

    \b
    Examples:
      footfall rebuild resume
      footfall rebuild resume --max-rate 0     remove the cap
    """
    from operations.rebuild import lifecycle as work

    click.echo(f"{run_operator(lambda operator: work.resume(operator, max_rate)).name} is being built.")


@rebuild.command()
@state_dir_option
def cancel() -> None:
    """Cancel the build and drop its tables."""
    from operations.rebuild import lifecycle as work

    click.echo(f"{run_operator(work.cancel).name} is dropped.")


@rebuild.command()
@state_dir_option
@click.option("--skip", multiple=True, metavar="TABLE", help="Do not compare this table; may be repeated.")
@click.option(
    "--wait",
    type=click.FloatRange(1),
    default=300,
    show_default=True,
    help="Seconds for both generations to reach the same log positions.",
)
@json_option
def verify(skip: tuple[str, ...], wait: float, as_json: bool) -> None:
    """Compare the build (or the standby) with the serving generation, at the same log positions.

    Exits 0 if all tables are equal, and 1 if they differ: then it names the tables and keys.

    \b
    Examples:
      footfall rebuild verify
      footfall rebuild verify --skip referrer_daily     a table that a new projection fills
    """
    from footfall.cli.output import rebuild as show
    from operations.rebuild import verify as work
    from operations.rebuild.status import as_json as in_json

    console = Console(stderr=True)
    with console.status("") as spinner:
        found = run_operator(lambda operator: work.verify(operator, patience=wait, skip=skip, report=spinner.update))
    if as_json:
        click.echo(in_json({"equal": found.equal, **show.facts(found)}))
    else:
        Console().print(show.verification(found))
    sys.exit(0 if found.equal else 1)


@rebuild.command()
@state_dir_option
@force_option
@lag_option
@wait_option
def promote(force: bool, max_lag: int, wait: float) -> None:
    """Let queries see the build, in one transaction. The generation that served is kept as standby.

    It refuses a build that is not verified, that lags, or that is behind what queries show, unless forced.
    """
    from operations.rebuild import promote as work

    _switched(run_operator(lambda operator: work.promote(operator, force=force, max_lag=max_lag, patience=wait)))


@rebuild.command()
@state_dir_option
@force_option
@lag_option
@wait_option
def rollback(force: bool, max_lag: int, wait: float) -> None:
    """Let queries see the standby again, in one transaction. The generation that served becomes the standby."""
    from operations.rebuild import promote as work

    _switched(run_operator(lambda operator: work.rollback(operator, force=force, max_lag=max_lag, patience=wait)))


@rebuild.command()
@state_dir_option
def drop() -> None:
    """Drop the standby. Afterwards there is nothing to roll back to."""
    from operations.rebuild import lifecycle as work

    click.echo(f"{run_operator(work.drop_standby).name} is dropped.")


def _switched(found: Any) -> None:
    how = f"{len(found.views)} views, {found.seconds * 1000:.0f} ms"
    click.echo(f"Queries see {found.new} now ({how}). {found.old} is standby.")


def run_operator(work: Callable[[Any], Awaitable[Any]], *, exclusive: bool = True) -> Any:
    """Connects, awaits `work` with the operator, and returns its result; prints a failure as one line and exits 1.

    Args:
        work: Awaited with an `operations.rebuild.operator.Operator`.
        exclusive: Refuse while another operator changes generations.
    """
    from footfall.cli.settings import operator_settings
    from operations.rebuild.operator import operating
    from operations.refusal import RefusedError
    from operations.settings import RebuildSettings

    settings = operator_settings(RebuildSettings, "owner")

    async def go() -> Any:
        async with operating(settings, exclusive=exclusive) as operator:
            return await work(operator)

    with readable_failures("The rebuild command failed", refusals=(RefusedError,)):
        return asyncio.run(go())
