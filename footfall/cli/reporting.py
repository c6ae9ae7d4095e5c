"""`footfall grant-reporter` and `footfall sql`: who may ask the read model, and asking it (docs/sql.md)."""

import asyncio
import sys
from pathlib import Path

import rich_click as click

from footfall.cli.failures import fail, readable_failures
from footfall.cli.options import state_dir_option

LEFT_OVER = "PostgreSQL still lets every role do more than that. Have a superuser run, in this database:"


@click.command("grant-reporter")
@click.argument("name")
@click.option("--new-password", is_flag=True, help="Another random password for a reporter that is there already.")
@click.option("--password-stdin", is_flag=True, help="Take the password from the first line of standard input.")
@click.option(
    "--statement-timeout", type=click.IntRange(1, 86_400), default=30, show_default=True, help="Seconds for a query."
)
@click.option("--connections", type=click.IntRange(1, 1_000), default=5, show_default=True, help="At once, at most.")
@state_dir_option
def grant_reporter(
    name: str, new_password: bool, password_stdin: bool, statement_timeout: int, connections: int
) -> None:
    """Make NAME a login role that may read schema `reporting` and nothing else, or bring it up to date.

    DATABASE_URL is the owner's. A new role gets a random password, shown once; PostgreSQL is sent a hash of it. What
    the role has changed about its own defaults is undone.
    """
    from operations import reporters
    from operations.settings import GrantReporterSettings

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    problem = reporters.refuse_name(name) or (reporters.refuse_password(password) if password is not None else None)
    if problem:
        raise click.UsageError(problem)
    from footfall.cli.settings import operator_settings

    url = operator_settings(GrantReporterSettings, "owner").database_url.get_secret_value()
    limits = {"statement_timeout": statement_timeout, "connections": connections}
    with readable_failures(f"{name} was granted nothing", refusals=(reporters.RefusedReporterError,)):
        granted = asyncio.run(reporters.grant(url, name, password, renew=new_password, **limits))
    click.echo(f"{name} may read schema reporting of database {granted.database}, and nothing else.")
    if granted.new_password is not None:
        click.echo(f"Its password, shown only now: {granted.new_password}")
    if granted.left_over:
        click.echo("\n  ".join((LEFT_OVER, *granted.left_over)), err=True)


@click.command("sql")
@click.option("--command", "-c", "commands", multiple=True, help="Run this and exit (again for more).")
@click.option("--file", "-f", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run a file and exit.")
@click.option("--csv", is_flag=True, help="Answer in CSV.")
@state_dir_option
def sql(commands: tuple[str, ...], file: Path | None, csv: bool) -> None:
    """Open psql as a reporter: on REPORTING_DATABASE_URL, or on the `footfall up` that runs here.

    psql is the one on PATH, or the embedded PostgreSQL's. A role that may do more than a reporter is refused.
    """
    from footfall.cli.settings import operator_settings
    from footfall.cli.sql_prompt import NoPsqlError, SqlSettings, run_psql
    from operations import reporters

    settings = operator_settings(SqlSettings, "reporter", "REPORTING_DATABASE_URL")
    url = settings.reporting_database_url.get_secret_value()
    with readable_failures("sql", refusals=(reporters.RefusedReporterError,)):
        asyncio.run(reporters.check(url))
    try:
        run_psql(url, commands, file, csv=csv)
    except NoPsqlError as error:
        fail(str(error))
