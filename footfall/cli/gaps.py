"""`footfall gaps`: lists offsets that the read model needs and the topic no longer holds, and accepts their loss."""

import sys
from typing import Any

import rich_click as click

from footfall.cli.options import state_dir_option
from footfall.cli.rebuild import run_operator

partition_option = click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this partition; may be repeated."
)


@click.group()
def gaps() -> None:
    """Go on after events were lost: show what is gone from the topic, and accept that it is lost.

    A projector that needs records which the topic no longer holds stops their partition, and never skips events by
    itself. These commands let it go on; the journal (ops.journal) keeps who accepted what. DATABASE_URL must name the
    database's owner. See docs/stops.md.

    \b
    Which command:
      gaps list, gaps accept      retention deleted records before they were projected
      gaps accept-history         the topic was deleted and created again under its name
      gaps accept-position        the end of the log was lost (a broker came back older)
    """


@gaps.command("list")
@state_dir_option
@partition_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def gaps_list(partitions: tuple[int, ...], as_json: bool) -> None:
    """Show which offsets of which partition are gone. Exits 1 if there is a gap, 0 if there is none.

    \b
    Examples:
      footfall gaps list
      footfall gaps list --partition 3 --json
    """
    import msgspec

    from operations import offset_gaps as work

    found = run_operator(lambda operator: work.gaps(operator, partitions), exclusive=False)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _show(found)
    sys.exit(1 if found else 0)


@gaps.command("accept")
@state_dir_option
@partition_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def gaps_accept(partitions: tuple[int, ...], yes: bool) -> None:
    """Go on without the records that are gone: their events will never be in the read model.

    It shows the gaps and asks first. The projectors go on within seconds, without a restart.

    \b
    Examples:
      footfall gaps accept
      footfall gaps accept --partition 3 --yes
    """
    from operations import offset_gaps as work

    async def show_and_accept(operator: Any) -> int:
        found = await work.gaps(operator, partitions)
        _show(found)
        if not found:
            return 0
        if not yes and not click.confirm("Go on without them, for good?"):
            click.echo("Nothing was changed.")
            return 1
        await work.accept(operator, found)
        click.echo("Accepted, and written into ops.journal. The projectors go on within seconds.")
        return 0

    sys.exit(run_operator(show_and_accept))


def _show(found: list[Any]) -> None:
    if not found:
        click.echo("There is no gap: the topic holds all that is still to be projected.")
    for gap in found:
        click.echo(f"Gone from the topic, and not projected: {gap}.")


@gaps.command("accept-history")
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def gaps_accept_history(yes: bool) -> None:
    """Go on with a topic that was deleted and created again, and keep the rows of the old one.

    Cursors and positions of the old topic are refused afterwards, and the feed no longer serves its events. The command
    rewrites every row, so it takes a while on a large read model.
    """
    from operations import offset_gaps as work

    if not yes:
        click.confirm("Read the new topic beside the rows of the old one, for good?", abort=True)
    for sentence in run_operator(work.accept_new_history):
        click.echo(f"{sentence}. The projectors go on within seconds.")


@gaps.command("accept-position")
@state_dir_option
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def gaps_accept_position(partition: int, offset: int, yes: bool) -> None:
    """Go on at OFFSET of PARTITION after the end of the log was lost. Records before OFFSET are not read.

    \b
    Example:
      footfall gaps accept-position 3 1742
    """
    from operations import offset_gaps as work

    if not yes:
        click.confirm(f"Go on at offset {offset} of partition {partition}, for good?", abort=True)
    run_operator(lambda operator: work.accept_at(operator, partition, offset))
    click.echo(f"Partition {partition} goes on at {offset} within seconds. It is written into ops.journal.")
