"""Reads the settings of operators' commands from the environment, or from the `footfall up` that runs here."""

from typing import Any, Literal, TypeVar

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from footfall.cli.failures import fail
from footfall.cli.options import state_dir
from footfall.processes.environment import load_settings

Settings = TypeVar("Settings", bound=BaseSettings)
Login = Literal["owner", "projector", "reporter"]


class NamedServers(BaseSettings):
    """The servers that the environment names; empty: not named."""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: SecretStr = SecretStr("")
    reporting_database_url: SecretStr = SecretStr("")
    kafka_bootstrap_servers: str = ""


def operator_settings(kind: type[Settings], login: Login, variable: str = "DATABASE_URL") -> Settings:
    """Reads settings of `kind`. Exits 1 with one line if no server is named and none runs here.

    Args:
        kind: The settings class.
        login: The role to use on the `footfall up` that runs here.
        variable: If the environment does not set it, both servers are those of that `footfall up`.
    """
    named, name = load_settings(NamedServers), variable.lower()
    needs_database = name in kind.model_fields
    if needs_database and not getattr(named, name).get_secret_value():
        return load_settings(kind, **_from_running_stack(kind, login, name))
    if needs_database or named.kafka_bootstrap_servers:
        return load_settings(kind)
    return load_settings(kind, **_from_running_stack(kind, login, None))


def _from_running_stack(kind: type[BaseSettings], login: Login, variable: str | None) -> dict[str, Any]:
    """Returns overrides for `kind`. `variable` None: the command needs no database, and Kafka has a default address."""
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
        found |= _shape_of_several(kind, found, len(running.kafka.split(",")))
    return found


def _shape_of_several(kind: type[BaseSettings], found: dict[str, Any], brokers: int) -> dict[str, Any]:
    """Returns the shape that `footfall up` gives topics on several brokers, but for what the environment names."""
    if brokers == 1:
        return {}
    from footfall.local.running import shape_of_topics

    named = load_settings(kind, **found).model_fields_set
    shape = shape_of_topics(brokers, None)
    return {name: number for name, number in shape.items() if name in kind.model_fields and name not in named}
