"""`footfall privacy`: its commands, options and confirmations (docs/privacy.md)."""

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

    DATABASE_URL must name a member of footfall_writer. See docs/privacy.md.

    \b
    Examples:
      footfall privacy export user-17 --output user-17.ndjson     everything about one user
      footfall privacy erase user-17                              forget one user
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
      1  the markers are not all in the log, or a generation has not passed them yet
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
