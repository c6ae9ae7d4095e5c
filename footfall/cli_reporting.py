"""`footfall grant-reporter` and `footfall sql`: who may ask the read model, and asking it (docs/sql.md)."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Never

import rich_click as click

from footfall.cli_failures import readable_failures

LARGE_OBJECTS = """\
PostgreSQL still lets every role make large objects. Have a superuser run, in this database:
  REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC"""

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall"),
    show_default=True,
    help="The state of a running `footfall up`, without a URL in the environment.",
)


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
    name: str, new_password: bool, password_stdin: bool, statement_timeout: int, connections: int, state_dir: Path
) -> None:
    """Make NAME a login role that may read schema `reporting` and nothing else, or bring it up to date.

    DATABASE_URL is the owner's. A new role gets a random password, shown once; PostgreSQL is sent a hash of it. What
    the role has changed about its own defaults is undone.
    """
    from footfall import reporters
    from footfall.environment import load_settings

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    problem = reporters.refuse_name(name) or (reporters.refuse_password(password) if password is not None else None)
    if problem:
        raise click.UsageError(problem)
    given = load_settings(reporters.GrantReporterSettings).database_url
    url = given.get_secret_value() if given else _local_url(state_dir, "DATABASE_URL", owner=True)

    limits = {"statement_timeout": statement_timeout, "connections": connections}
    with readable_failures(f"{name} was granted nothing"), readable_refusals():
        granted = asyncio.run(reporters.grant(url, name, password, renew=new_password, **limits))
    click.echo(f"{name} may read schema reporting of database {granted.database}, and nothing else.")
    if granted.new_password is not None:
        click.echo(f"Its password, shown only now: {granted.new_password}")
    if granted.makes_large_objects:
        click.echo(LARGE_OBJECTS, err=True)


@click.command("sql")
@click.option("--command", "-c", "commands", multiple=True, help="Run this and exit (again for more).")
@click.option("--file", "-f", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run a file and exit.")
@click.option("--csv", is_flag=True, help="Answer in CSV.")
@state_dir_option
def sql(commands: tuple[str, ...], file: Path | None, csv: bool, state_dir: Path) -> None:
    """Open psql as a reporter: on REPORTING_DATABASE_URL, or on the `footfall up` that runs here.

    psql is the one on PATH, or the embedded PostgreSQL's. A role that may do more than a reporter is refused.
    """
    from footfall import reporters
    from footfall.environment import load_settings
    from footfall.sql_prompt import NoPsqlError, SqlSettings, run_psql

    given = load_settings(SqlSettings).reporting_database_url.get_secret_value()
    url = given or _local_url(state_dir, "REPORTING_DATABASE_URL", owner=False)
    with readable_failures("sql"), readable_refusals():
        asyncio.run(reporters.check(url))
    try:
        run_psql(url, commands, file, csv=csv)
    except NoPsqlError as error:
        _fail(str(error))


def _local_url(state_dir: Path, variable: str, *, owner: bool) -> str:
    """A URL of the stack that runs on this state, or one line that says what is missing, and exit 1."""
    try:
        from footfall.embedded import StackError
        from footfall.local_reporter import local_reporter_url, running_owner_url
    except ImportError:
        _fail(f"{variable} is not set, and there is no embedded stack here")
    try:
        url = running_owner_url(state_dir)
    except StackError as error:
        _fail(f"{variable} is not set. {error}")
    return url if owner else local_reporter_url(url)


@contextmanager
def readable_refusals() -> Iterator[None]:
    """Turns a refusal into one line and exit 1."""
    from footfall.reporters import RefusedReporterError

    try:
        yield
    except RefusedReporterError as error:
        _fail(str(error))


def _fail(text: str) -> Never:
    click.echo(f"footfall: {text}", err=True)
    sys.exit(1)
