"""Reads settings from the environment; prints one line for each setting that is wrong, and exits."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Never, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from contracts.types import Catalogue, CatalogueError, read_catalogue
from footfall.processes.secrets.in_production import problems_in_production
from footfall.processes.secrets.secret_files import SecretFileError, secrets_from_files
from telemetry.traces.settings import TraceSettings
from telemetry.traces.tracing import trace_process

Settings = TypeVar("Settings", bound=BaseSettings)

ENVIRONMENTS = ("development", "test", "production")


def environment_name() -> str:
    """Returns ENVIRONMENT: development (the default), test or production. Exits 1 for any other value."""
    name = os.environ.get("ENVIRONMENT", "development")
    if name not in ENVIRONMENTS:
        exit_with([f"ENVIRONMENT: {name!r} is not one of {', '.join(ENVIRONMENTS)}"])
    return name


def load_settings(kind: type[Settings], **overrides: Any) -> Settings:
    """Reads settings of `kind`: overrides first, then the environment, then (in development) the file `.env`.

    A secret may be in a file, see `secrets_from_files`.

    Exits 1 with one line for each problem, all at once. It never prints a value, which may be secret.

    Args:
        kind: The settings class.
        overrides: Values that come from the command line; None: not given.
    """
    environment = environment_name()
    env_file = ".env" if environment == "development" else None
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        found = kind(_env_file=env_file, **{**secrets_from_files(kind, env_file), **given})
    except SecretFileError as error:
        exit_with(list(error.problems))
    except ValidationError as error:
        exit_with([_line(problem["loc"], problem) for problem in error.errors()])
    problems = problems_in_production(found) if environment == "production" else []
    if problems:
        exit_with(problems)
    return found


def load_catalogue(file: Path | None) -> Catalogue:
    """Reads the catalogue of event types once: this file, or the shipped one. Exits 1 with a line for each problem."""
    try:
        return read_catalogue(file)
    except CatalogueError as error:
        print(f"footfall: {error}", file=sys.stderr)
        sys.exit(1)


def tracing(process: str) -> AbstractContextManager[None]:
    """Reads the settings of traces, and records them while the body runs. `process`: such as command-side."""
    return trace_process(load_settings(TraceSettings), process)


def _line(location: tuple[int | str, ...], problem: object) -> str:
    """Names the variable, unless the problem is one of several together: its sentence names them."""
    return ": ".join(filter(None, (_variable(location), _sentence(problem))))


def _variable(location: tuple[int | str, ...]) -> str:
    return "_".join(str(part) for part in location).upper()


def _sentence(problem: object) -> str:
    assert isinstance(problem, dict)
    return (
        "is not set, and it has no default"
        if problem["type"] == "missing"
        else str(problem["msg"]).removeprefix("Value error, ")
    )


def exit_with(lines: list[str]) -> Never:
    """Ends the process: settings are not usable, and why, one line each."""
    print("footfall: the settings are not usable (see .env.example):", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)
    sys.exit(1)
