"""Replaces this process with psql, connected as a reporter: the work behind `footfall sql`."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from read_model.connecting.database_url import OptionalDatabaseUrlSetting, parse

HINT = r"Views: \dv   columns and what they mean: \d+ NAME   twelve questions: docs/sql.md   leave: \q"


class SqlSettings(BaseSettings):
    """Settings of `footfall sql`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    reporting_database_url: OptionalDatabaseUrlSetting = Field(
        default=SecretStr(""), description="PostgreSQL URL of a reporter."
    )


class NoPsqlError(Exception):
    """There is no psql on this machine."""


def find_psql() -> str:
    """Returns the path of the psql on PATH, or of the embedded PostgreSQL's. Raises NoPsqlError."""
    on_path = shutil.which("psql")
    if on_path:
        return on_path
    try:
        from footfall.local.embedded.postgres.cluster import BIN
    except ImportError as error:
        raise NoPsqlError("there is no psql: install PostgreSQL's client, or footfall[embedded]") from error
    return str(BIN / "psql")


def run_psql(url: str, commands: Sequence[str], file: Path | None, *, csv: bool) -> Never:
    """Replaces this process with psql.

    With `commands` or a `file`, psql reads no psqlrc, stops at the first error, and exits 3 (1 for a command).

    Args:
        url: PostgreSQL URL of a reporter.
        commands: SQL to run, in this order.
        file: A file of SQL to run.
        csv: Prints results as CSV.
    """
    psql = find_psql()
    target, password = parse(url).libpq()
    arguments = [psql, "--dbname", target, *(["--csv"] if csv else [])]
    if commands or file:
        arguments += ["--no-psqlrc", "--set", "ON_ERROR_STOP=1"]
        arguments += [f"--command={command}" for command in commands]
        arguments += [f"--file={file}"] if file else []
    elif sys.stdin.isatty():
        print(HINT, file=sys.stderr, flush=True)
    secret = {} if password is None else {"PGPASSWORD": password}  # other users can see a command line
    environment = {"PGCONNECT_TIMEOUT": "10", **os.environ}
    os.execve(psql, arguments, {**environment, **secret, "PGAPPNAME": "footfall-sql"})  # noqa: S606
