"""`footfall privacy`: its commands, options and confirmations (docs/privacy.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

import rich_click as click

from contracts.event import DEFAULT_TENANT
from footfall.cli.options import state_dir_option

tenant_option = click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose users these are.")
actor_option = click.option("--actor", help="Who does this, for the journal.  [default: the user of this terminal]")


@click.group()
def privacy() -> None:
    """Erase a user, hand out everything about a user, forget what is old.

    DATABASE_URL must name a member of footfall_writer, or for `retention` and `rewrite` the owner. See docs/privacy.md.

    \b
    Examples:
      footfall privacy export user-17 --output user-17.ndjson     everything about one user
      footfall privacy erase user-17                              forget one user
      footfall privacy retention set --days 365                   keep events for a year
    """


@privacy.command("erase")
@state_dir_option
@click.argument("users", metavar="USER..", nargs=-1)
@click.option(
    "--from-file", type=click.File("r", encoding="utf-8"), help="More users, one a line; `-` is standard input."
)
@tenant_option
@actor_option
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    help="Seconds to wait until every generation has deleted the rows.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def privacy_erase(
    users: tuple[str, ...],
    from_file: TextIO | None,
    tenant: str,
    actor: str | None,
    wait: float,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase users: rows of every generation, dead letters, sessions. Counts by hour and product stay.

    It writes a marker into every partition of the log, at which projectors delete the rows, also in every rebuild to
    come. What users do afterwards is recorded as that of new users. The report says which bytes are left where.

    \b
    Exit codes:
      0  no generation holds the users any more
      1  a marker is not in the log, a generation has not passed them all yet, or that is unknown
    Examples:
      footfall privacy erase user-17 --tenant acme
      footfall privacy erase --from-file who-left.txt --yes --json
    """
    from footfall.cli.output.privacy import erase

    lines = [] if from_file is None else [line.rstrip("\r\n") for line in from_file]
    wanted = [*users, *filter(None, lines)]
    if not wanted:
        raise click.UsageError("Name the users to erase.")
    erase(tenant, list(dict.fromkeys(wanted)), actor, wait, ask=not yes, as_json=as_json)


@privacy.command("export")
@state_dir_option
@click.argument("user")
@tenant_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "report"]),
    default="ndjson",
    show_default=True,
    help="ndjson: one JSON document a line, for programs; report: for the person.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file (mode 0600).  [default: stdout]"
)
@actor_option
def privacy_export(
    user: str, tenant: str, form: Literal["ndjson", "report"], output: Path | None, actor: str | None
) -> None:
    """Hand out everything about one user: events, sessions, counts, dead letters, as of one moment.

    \b
    Examples:
      footfall privacy export user-17 --output user-17.ndjson
      footfall privacy export user-17 --format report | less
    """
    from footfall.cli.output.privacy import export

    export(tenant, user, form, output, actor)


@privacy.group("retention")
def retention() -> None:
    """Keep events and dead letters for so many days, and no longer.

    DATABASE_URL must name the database's owner. A tenant without a line keeps events for RETENTION_DAYS, a setting of
    the projectors, or for ever. Setting a line deletes nothing; `run` does, in every generation: run it once a day.
    Projectors with RETENTION_DAYS do it each hour, but for dead letters.

    \b
    Examples:
      footfall privacy retention set --tenant acme --days 365
      footfall privacy retention set --tenant acme --type PRODUCT_VIEW --days 90
      footfall privacy retention set --dead-letters --days 30
      footfall privacy retention run
    """


what_options = (
    click.option("--type", "event_type", default="", help="Events of this type.  [default: every type without a line]"),
    click.option(
        "--dead-letters", is_flag=True, help="Dead letters that were redriven or discarded, instead of events."
    ),
    click.option("--counts", is_flag=True, help="Counts by hour, instead of events; they stay as long as events do."),
)


def _what(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(what_options):
        command = option(command)
    return command


@retention.command("set")
@state_dir_option
@tenant_option
@_what
@click.option("--days", type=click.IntRange(1, 36_500), required=True, help="For how many days.")
@actor_option
def retention_set(tenant: str, event_type: str, dead_letters: bool, counts: bool, days: int, actor: str | None) -> None:
    """Set for how many days something is kept."""
    from footfall.cli.output.retention import set_line

    set_line(tenant, event_type, days, actor, dead_letters=dead_letters, counts=counts)


@retention.command("remove")
@state_dir_option
@tenant_option
@_what
@actor_option
def retention_remove(tenant: str, event_type: str, dead_letters: bool, counts: bool, actor: str | None) -> None:
    """Keep it for ever again. Exits 1 if there was no such line."""
    from footfall.cli.output.retention import remove_line

    remove_line(tenant, event_type, actor, dead_letters=dead_letters, counts=counts)


@retention.command("list")
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def retention_list(as_json: bool) -> None:
    """List what is kept for how long."""
    from footfall.cli.output.retention import print_lines

    print_lines(as_json=as_json)


@retention.command("run")
@state_dir_option
@actor_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def retention_run(actor: str | None, as_json: bool) -> None:
    """Delete what is too old, in every generation."""
    from footfall.cli.output.retention import run

    run(actor, as_json=as_json)


audited_option = click.option("--actor", help="Who does this, for the audit log.  [default: the user of this terminal]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


@privacy.group("rewrite")
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
@audited_option
def rewrite_plan(as_json: bool, actor: str | None) -> None:
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
@audited_option
def rewrite_copy(counts: bool, as_json: bool, actor: str | None) -> None:
    """Copy what the new topics lack. Covers users who were erased before it began."""
    from footfall.cli.output.rewrite import copy

    copy(actor, keeps_counts=counts, as_json=as_json)


@rewrite.command("verify")
@state_dir_option
@json_option
@audited_option
def rewrite_verify(as_json: bool, actor: str | None) -> None:
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
@audited_option
def rewrite_switch(wait: float, yes: bool, as_json: bool, actor: str | None) -> None:
    """Make the new topics the log. Until every process has their names, no event is taken."""
    from footfall.cli.output.rewrite import switch

    switch(actor, wait, ask=not yes, as_json=as_json)


@rewrite.command("finish")
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@audited_option
def rewrite_finish(yes: bool, actor: str | None) -> None:
    """Delete the old topics, after the switch. This cannot be undone."""
    from footfall.cli.output.rewrite import finish

    finish(actor, ask=not yes)


@rewrite.command("abandon")
@state_dir_option
@click.option("--force", is_flag=True, help="Also if somebody else wrote to the new topics: these records go.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@audited_option
def rewrite_abandon(force: bool, yes: bool, actor: str | None) -> None:
    """Give the rewrite up before the switch: delete the new topics, and open the old ones."""
    from footfall.cli.output.rewrite import abandon

    abandon(actor, ask=not yes, force=force)
