"""`footfall audit`: lists the audit log, and verifies that nothing of it was changed (docs/audit.md)."""

import sys
from typing import Any

import rich_click as click

from footfall.cli.dlq import Moment
from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option

OUTCOMES = ("begun", "done", "refused", "failed")
UNREACHABLE = 2  # exit code

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


@click.group()
def audit() -> None:
    """Show who did what to data and keys, and prove that nobody has changed that record.

    The audit log (ops.audit) can only be appended to. Each row carries the hash of the one before, and projectors
    anchor the newest hash in Kafka. DATABASE_URL must name the database's owner, or a role that may SELECT from
    ops.audit. See docs/audit.md.
    """


@audit.command("list")
@state_dir_option
@click.option("--since", type=Moment(), help="Rows of this time or later (ISO 8601, UTC).")
@click.option("--until", type=Moment(), help="Rows before this time (ISO 8601, UTC).")
@click.option("--actor", help="Rows of this actor: user@host, key:<id>, ..")
@click.option("--action", help="Rows whose action begins with this: dlq, 'rebuild promote', export, ..")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Rows with this outcome.")
@click.option("--tenant", "tenant_id", help="Rows about this tenant.")
@click.option("--user", "user_id", help="Rows about this user of --tenant (default: the default tenant).")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Rows at most.")
@json_option
def audit_list(limit: int, as_json: bool, **chosen: Any) -> None:
    """List the newest rows of the audit log, the newest first.

    \b
    Examples:
      footfall audit list --since 2026-01-31
      footfall audit list --action dlq --user u-17
    """
    from footfall.cli.output.audit import print_entries
    from operations.audit.log import AuditFilter

    print_entries(AuditFilter(**chosen), limit, as_json=as_json)


@audit.command("verify")
@state_dir_option
@click.option(
    "--given-up",
    multiple=True,
    metavar="LOG",
    help="The log of a database that was given up on purpose: its anchors are no finding. May be repeated.",
)
@json_option
def audit_verify(given_up: tuple[str, ...], as_json: bool) -> None:
    """Check that no row was changed, removed or inserted, and name each that was.

    It compares each row's hash with its content and with the row before, and the log with its anchors in Kafka, which
    also tell that rows are gone at the end.

    \b
    Exit codes:
      0  the log is as it was written
      1  it is not
      2  Kafka or PostgreSQL cannot be reached, so nothing is known
    """
    from footfall.cli.output.audit import print_verification

    with readable_failures("audit verify", UNREACHABLE):
        sys.exit(print_verification(given_up, as_json=as_json))
