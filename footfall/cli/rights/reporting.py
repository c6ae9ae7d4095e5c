"""`footfall grant-reporter` makes a role that may query schema `reporting`; `footfall sql` opens psql as that role."""

import asyncio
import sys
from pathlib import Path

import rich_click as click

from footfall.cli.failures import fail, readable_failures
from footfall.cli.options import state_dir_option

SUPERUSER_STEPS = "PostgreSQL still lets every role do more than that. Have a superuser run, in this database:"


@click.command("grant-reporter")
@click.argument("name")
@click.option("--tenant", help="Whose data it may query.  [default: default; an existing reporter's stays]")
@click.option("--new-password", is_flag=True, help="Give an existing reporter a new random password.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.option(
    "--statement-timeout",
    type=click.IntRange(1, 86_400),
    default=30,
    show_default=True,
    help="Longest query of this reporter, seconds.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 1_000),
    default=5,
    show_default=True,
    help="Connections of this reporter at once, at most.",
)
@state_dir_option
def grant_reporter(
    name: str, tenant: str | None, new_password: bool, password_stdin: bool, statement_timeout: int, connections: int
) -> None:
    """Make NAME a login role that may read schema `reporting` and nothing else, or bring it up to date.

    DATABASE_URL must name the database's owner. A new role gets a random password, which is shown once. An existing
    reporter keeps its password; defaults that it changed for itself are reset.

    \b
    Examples:
      footfall grant-reporter analyst
      footfall grant-reporter acme_analyst --tenant acme
      footfall grant-reporter analyst --statement-timeout 300 --connections 2
      footfall grant-reporter analyst --password-stdin < password-file
    """
    from operations import reporters
    from operations.settings import GrantReporterSettings

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    problem = (
        reporters.name_problem(name)
        or (reporters.password_problem(password) if password is not None else None)
        or (reporters.tenant_problem(tenant) if tenant is not None else None)
    )
    if problem:
        raise click.UsageError(problem)
    from footfall.cli.settings import operator_settings

    url = operator_settings(GrantReporterSettings, "owner").database_url.get_secret_value()
    limits = {"statement_timeout": statement_timeout, "connections": connections}
    with readable_failures(f"{name} was granted nothing", refusals=(reporters.RefusedReporterError,)):
        granted = asyncio.run(reporters.grant(url, name, password, tenant_id=tenant, renew=new_password, **limits))
    click.echo(f"{name} may read schema reporting of database {granted.database}, and nothing else.")
    click.echo(f"The views show it the events of the tenant {granted.tenant_id}.")
    if granted.new_password is not None:
        click.echo(f"Its password, shown only now: {granted.new_password}")
    if granted.superuser_steps:
        click.echo("\n  ".join((SUPERUSER_STEPS, *granted.superuser_steps)), err=True)


@click.command("sql")
@click.option("--command", "-c", "commands", multiple=True, help="Run this SQL and exit; may be repeated.")
@click.option(
    "--file",
    "-f",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run the SQL in this file and exit.",
)
@click.option("--csv", is_flag=True, help="Print results as CSV.")
@state_dir_option
def sql(commands: tuple[str, ...], file: Path | None, csv: bool) -> None:
    """Open psql as a reporter: on REPORTING_DATABASE_URL, or on the `footfall up` that runs here.

    It runs the psql on PATH, or the one of the embedded PostgreSQL. It refuses a role that may do more than read schema
    `reporting`. In psql, \\dv lists the views and \\d+ NAME explains the columns of one.

    \b
    Examples:
      footfall sql
      footfall sql -c "SELECT * FROM users LIMIT 5" --csv
      footfall sql -f report.sql
    """
    from footfall.cli.rights.sql_prompt import NoPsqlError, SqlSettings, run_psql
    from footfall.cli.settings import operator_settings
    from operations import reporters

    settings = operator_settings(SqlSettings, "reporter", "REPORTING_DATABASE_URL")
    url = settings.reporting_database_url.get_secret_value()
    with readable_failures("sql", refusals=(reporters.RefusedReporterError,)):
        asyncio.run(reporters.check(url))
    try:
        run_psql(url, commands, file, csv=csv)
    except NoPsqlError as error:
        fail(str(error))
