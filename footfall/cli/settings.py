"""Settings of operators' commands: from the environment, else from the `footfall up` that runs here."""

from typing import Any, Literal, TypeVar

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from footfall.cli.failures import fail
from footfall.cli.options import state_dir
from footfall.processes.environment import load_settings

Settings = TypeVar("Settings", bound=BaseSettings)
Login = Literal["owner", "projector", "reporter"]


class Given(BaseSettings):
    """Which servers the environment names."""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: SecretStr = SecretStr("")
    reporting_database_url: SecretStr = SecretStr("")
    kafka_bootstrap_servers: str = ""


def operator_settings(kind: type[Settings], login: Login, variable: str = "DATABASE_URL") -> Settings:
    """Reads `kind`. Without `variable` in the environment, both servers are those of the stack that runs here.

    Exits 1 with a line that says so when none does.
    """
    given, name = load_settings(Given), variable.lower()
    wants_database = name in kind.model_fields
    if wants_database and not getattr(given, name).get_secret_value():
        return load_settings(kind, **_of_what_runs_here(kind, login, name))
    if wants_database or given.kafka_bootstrap_servers:
        return load_settings(kind)
    return load_settings(kind, **_of_what_runs_here(kind, login, None))


def _of_what_runs_here(kind: type[BaseSettings], login: Login, variable: str | None) -> dict[str, Any]:
    """Overrides for `kind`. `variable` None: no database is wanted, and Kafka has a default."""
    try:
        from footfall.local.embedded import StackError
        from footfall.local.reporter import running_stack
    except ImportError:
        return {} if variable is None else fail(f"{variable.upper()} is not set, and there is no embedded stack here")
    try:
        running = running_stack(state_dir())
    except StackError as error:
        return {} if variable is None else fail(f"{variable.upper()} is not set, and {error}")
    found: dict[str, Any] = {} if variable is None else {variable: SecretStr(running.url(login))}
    if "kafka_bootstrap_servers" in kind.model_fields:
        found["kafka_bootstrap_servers"] = running.kafka
    return found
