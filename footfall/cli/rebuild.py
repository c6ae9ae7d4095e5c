"""`footfall rebuild`: what operators type and read (docs/rebuild.md)."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import rich_click as click
from rich.console import Console

from footfall.cli.called_as import as_called
from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
force_option = click.option("--force", is_flag=True, help="Whatever is unverified, lagging or behind.")
lag_option = click.option(
    "--max-lag", type=click.IntRange(0), default=1_000, show_default=True, help="Events behind the log's end, at most."
)
wait_option = click.option(
    "--wait", type=click.FloatRange(0), default=60, show_default=True, help="Seconds to wait for queries that run."
)


@click.group()
def rebuild() -> None:
    """Build the read model anew beside the one that serves, compare, switch, and switch back.

    DATABASE_URL is the owner's. See docs/rebuild.md.
    """


@rebuild.command()
@state_dir_option
@click.option("--max-rate", type=click.IntRange(1), help="Events a second, over all projectors.  [default: no cap]")
@click.option("--forget-discards", is_flag=True, help="Try again what `footfall dlq discard` gave up.")
@click.option("--accept-missing", is_flag=True, help="Begin where the topic begins, though its head is gone.")
def start(max_rate: int | None, forget_discards: bool, accept_missing: bool) -> None:
    """Make an empty generation; running projectors fill it from offset 0."""
    from operations.rebuild import lifecycle as work

    found = run_operator(
        lambda operator: work.start(operator, max_rate, forget_discards=forget_discards, accept_missing=accept_missing)
    )
    click.echo(as_called(f"{found.name} is being built. Follow it: footfall rebuild status --watch"))


@rebuild.command()
@state_dir_option
@click.option("--watch", is_flag=True, help="A bar, until the build has reached the end of the log.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show every generation: state, progress, rate, time left."""
    from footfall.cli.output import rebuild as show
    from operations.rebuild import status as look

    if watch:
        run_operator(lambda operator: show.watch(operator, Console()), alone=False)
        return
    found = run_operator(look.progress_of_all, alone=False)
    if as_json:
        click.echo(look.as_json(found))
    else:
        Console().print(show.table(found))


@rebuild.command()
@state_dir_option
def pause() -> None:
    """Stop building for now; nothing is lost."""
    from operations.rebuild import lifecycle as work

    click.echo(as_called(f"{run_operator(work.pause).name} is paused. Go on: footfall rebuild resume"))


@rebuild.command()
@state_dir_option
@click.option("--max-rate", type=click.IntRange(0), help="A new cap, events a second; 0: none.  [default: as before]")
def resume(max_rate: int | None) -> None:
    """Go on building, from where it stood; also changes the cap of a build that runs."""
    from operations.rebuild import lifecycle as work

    click.echo(f"{run_operator(lambda operator: work.resume(operator, max_rate)).name} is being built.")


@rebuild.command()
@state_dir_option
def cancel() -> None:
    """Give the build up and drop it."""
    from operations.rebuild import lifecycle as work

    click.echo(f"{run_operator(work.cancel).name} is dropped.")


@rebuild.command()
@state_dir_option
@click.option("--skip", multiple=True, metavar="TABLE", help="A table that is meant to differ; may be repeated.")
@click.option(
    "--wait", type=click.FloatRange(1), default=300, show_default=True, help="Seconds to reach the same positions."
)
@json_option
def verify(skip: tuple[str, ...], wait: float, as_json: bool) -> None:
    """Compare the build with what serves, at the same log positions; exit 1 when they differ."""
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
    """Let queries see the build, in one transaction; what served before is kept as standby."""
    from operations.rebuild import promote as work

    _switched(run_operator(lambda operator: work.promote(operator, force=force, max_lag=max_lag, patience=wait)))


@rebuild.command()
@state_dir_option
@force_option
@lag_option
@wait_option
def rollback(force: bool, max_lag: int, wait: float) -> None:
    """Let queries see the standby again."""
    from operations.rebuild import promote as work

    _switched(run_operator(lambda operator: work.rollback(operator, force=force, max_lag=max_lag, patience=wait)))


@rebuild.command()
@state_dir_option
def drop() -> None:
    """Drop the standby: from then on there is nothing to roll back to."""
    from operations.rebuild import lifecycle as work

    click.echo(f"{run_operator(work.drop_standby).name} is dropped.")


def _switched(found: Any) -> None:
    how = f"{len(found.views)} views, {found.seconds * 1000:.0f} ms"
    click.echo(f"Queries see {found.new} now ({how}). {found.old} is standby.")


def run_operator(work: Callable[[Any], Awaitable[Any]], *, alone: bool = True) -> Any:
    """Lets an operator work; what cannot be reached or done is one line and exit 1."""
    from footfall.cli.settings import operator_settings
    from operations.rebuild.lifecycle import RefusedError, operating
    from operations.settings import RebuildSettings

    settings = operator_settings(RebuildSettings, "owner")

    async def go() -> Any:
        async with operating(settings, alone=alone) as operator:
            return await work(operator)

    with readable_failures("The rebuild command failed", refusals=(RefusedError,)):
        return asyncio.run(go())
