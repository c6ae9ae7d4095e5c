"""`footfall gaps`: what the topic no longer holds though the read model needs it, and going on without it."""

import sys
from typing import Any

import rich_click as click

from footfall.cli.options import state_dir_option
from footfall.cli.rebuild import run_operator

partition_option = click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Of this partition only (again)."
)


@click.group()
def gaps() -> None:
    """Gaps between the topic and the read model: retention deleted records before they were projected.

    DATABASE_URL is the owner's. See docs/stops.md.
    """


@gaps.command("list")
@state_dir_option
@partition_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def gaps_list(partitions: tuple[int, ...], as_json: bool) -> None:
    """Show every gap; exit 1 when there is one."""
    import msgspec

    from operations import offset_gaps as work

    found = run_operator(lambda operator: work.gaps(operator, partitions), alone=False)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _show(found)
    sys.exit(1 if found else 0)


@gaps.command("accept")
@state_dir_option
@partition_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def gaps_accept(partitions: tuple[int, ...], yes: bool) -> None:
    """Go on without the records that are gone. Their events will never be in the read model; the journal says so.

    The projectors go on within seconds; nothing need be restarted.
    """
    from operations import offset_gaps as work

    async def decide(operator: Any) -> int:
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

    sys.exit(run_operator(decide))


def _show(found: list[Any]) -> None:
    if not found:
        click.echo("There is no gap: the topic holds all that is still to be projected.")
    for gap in found:
        click.echo(f"Gone from the topic, and not projected: {gap}.")


@gaps.command("accept-history")
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def gaps_accept_history(yes: bool) -> None:
    """Go on with a topic that was made anew under its old name, and keep the rows of the old one.

    Cursors and positions of the old history end; the feed tells it no more. It rewrites every row.
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
@click.option("--yes", is_flag=True, help="Do not ask.")
def gaps_accept_position(partition: int, offset: int, yes: bool) -> None:
    """Go on at OFFSET of PARTITION, in the log as it is, after its end was lost. What lies before is not asked for."""
    from operations import offset_gaps as work

    if not yes:
        click.confirm(f"Go on at offset {offset} of partition {partition}, for good?", abort=True)
    run_operator(lambda operator: work.accept_at(operator, partition, offset))
    click.echo(f"Partition {partition} goes on at {offset} within seconds. It is written into ops.journal.")
