"""`footfall sql`: psql in the place of this process, as a reporter."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from read_model.pool import driver_url

HINT = r"Views: \dv   columns and what they mean: \d+ NAME   twelve questions: docs/sql.md   leave: \q"


class SqlSettings(BaseSettings):
    """Settings of `footfall sql`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    reporting_database_url: SecretStr = Field(default=SecretStr(""), description="PostgreSQL URL of a reporter.")


class NoPsqlError(Exception):
    """There is no psql on this machine."""


def find_psql() -> str:
    """The psql on PATH, else that of the embedded PostgreSQL. Raises NoPsqlError."""
    on_path = shutil.which("psql")
    if on_path:
        return on_path
    try:
        from footfall.embedded.postgres_cluster import BIN  # noqa: PLC0415 - an image has no embedded stack
    except ImportError as error:
        raise NoPsqlError("there is no psql: install PostgreSQL's client, or footfall[embedded]") from error
    return str(BIN / "psql")


def conninfo(url: str) -> tuple[str, str]:
    """The URL as libpq takes it, without the password; and the password. A command line can be seen by others."""
    parts = urlsplit(driver_url(url))
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    host = parts.netloc.rpartition("@")[2]
    options = dict(parse_qsl(parts.query))
    password = options.pop("password", unquote(password))
    return urlunsplit(parts._replace(netloc=f"{user}@{host}", query=urlencode(options, quote_via=quote))), password


def run_psql(url: str, commands: Sequence[str], file: Path | None, *, csv: bool) -> Never:
    """Becomes psql. With `commands` or a `file` it reads no psqlrc, stops at the first error and exits 3 (1 for -c)."""
    psql = find_psql()
    target, password = conninfo(url)
    arguments = [psql, "--dbname", target, *(["--csv"] if csv else [])]
    if commands or file:
        arguments += ["--no-psqlrc", "--set", "ON_ERROR_STOP=1"]
        arguments += [f"--command={command}" for command in commands]
        arguments += [f"--file={file}"] if file else []
    elif sys.stdin.isatty():
        print(HINT, file=sys.stderr, flush=True)
    patience = {"PGCONNECT_TIMEOUT": "10", **os.environ}
    os.execve(psql, arguments, {**patience, "PGPASSWORD": password, "PGAPPNAME": "footfall-sql"})  # noqa: S606
