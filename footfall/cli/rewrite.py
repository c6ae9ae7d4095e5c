"""`footfall privacy rewrite`: its commands, options and confirmations (docs/privacy.md)."""

import rich_click as click

from footfall.cli.options import state_dir_option

actor_option = click.option("--actor", help="Who does this, for the audit log.  [default: the user of this terminal]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


@click.group("rewrite")
def rewrite() -> None:
    """Copy the log into new topics without the erased users, and make these the log.

    DATABASE_URL must name the database's owner. Every step can be repeated, also after a kill. See docs/privacy.md.

    \b
    Examples:
      footfall privacy rewrite plan         what it would do; changes nothing
      footfall privacy rewrite copy         copies while everything runs; again, it copies what came since
      footfall privacy rewrite verify       compares every record
      footfall privacy rewrite switch       closes the old topics, copies the rest, moves the rows
      footfall privacy rewrite finish       deletes the old topics
    """


@rewrite.command("plan")
@state_dir_option
@json_option
@actor_option
def plan(as_json: bool, actor: str | None) -> None:
    """Say which records would be replaced. Changes nothing."""
    from footfall.cli.output.rewrite import plan

    plan(actor, as_json=as_json)


@rewrite.command("copy")
@state_dir_option
@click.option(
    "--counts/--no-counts",
    default=True,
    show_default=True,
    help="Keep the counts by hour and product when a generation is built anew; otherwise nothing at all stays.",
)
@json_option
@actor_option
def copy(counts: bool, as_json: bool, actor: str | None) -> None:
    """Copy what the new topics lack. Covers users who were erased before it began."""
    from footfall.cli.output.rewrite import copy

    copy(actor, keeps_counts=counts, as_json=as_json)


@rewrite.command("verify")
@state_dir_option
@json_option
@actor_option
def verify(as_json: bool, actor: str | None) -> None:
    """Compare every record with its copy: key, value, headers and time."""
    from footfall.cli.output.rewrite import verify

    verify(actor, as_json=as_json)


@rewrite.command("switch")
@state_dir_option
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    help="Seconds to wait until the projectors have all of the log.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@actor_option
def switch(wait: float, yes: bool, as_json: bool, actor: str | None) -> None:
    """Make the new topics the log. Until every process has their names, no event is taken."""
    from footfall.cli.output.rewrite import switch

    switch(actor, wait, ask=not yes, as_json=as_json)


@rewrite.command("finish")
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@actor_option
def finish(yes: bool, actor: str | None) -> None:
    """Delete the old topics, after the switch. This cannot be undone."""
    from footfall.cli.output.rewrite import finish

    finish(actor, ask=not yes)


@rewrite.command("abandon")
@state_dir_option
@click.option("--force", is_flag=True, help="Also if somebody else wrote to the new topics: these records go.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@actor_option
def abandon(force: bool, yes: bool, actor: str | None) -> None:
    """Give the rewrite up before the switch: delete the new topics, and open the old ones."""
    from footfall.cli.output.rewrite import abandon

    abandon(actor, ask=not yes, force=force)
