"""Runs `footfall front`: the command side and the query side in one process."""

from secrets import token_urlsafe

import msgspec
from pydantic import Field, SecretStr

from command_side.app import CommandSide
from command_side.settings import CommandSettings
from contracts.event import PERSONAL_FIELDS
from footfall.processes.environment import load_catalogue, load_settings
from footfall.processes.identity import load_identity
from footfall.processes.own_sessions import require_own_sessions
from footfall.processes.sealing import load_sealing
from footfall.processes.serving import serve_sides
from footfall.processes.transport import load_transport
from query_side.app import QuerySide
from query_side.settings import QuerySettings
from telemetry.logs import configure_logs
from web.policies.decisions import ADMIT, Answer, RequestPolicy
from web.policies.limits.limit_side import limit_side


class FrontSettings(CommandSettings, QuerySettings):
    """Settings of both sides in one process."""

    port: int = Field(default=3000, ge=0, le=65_535, description="Port to listen on.")
    console_url: str = Field(
        default="",
        pattern=r"^(https?://[^/?#\s]+)?$",
        description="Where the console is, for browsers; empty: nowhere.",
    )


def front_settings(port: int | None) -> FrontSettings:
    """The settings of this process. Both sides are in it, so a secret of its own seals positions if none is given."""
    settings = load_settings(FrontSettings, port=port)
    if settings.position_secret.get_secret_value():
        return settings
    return settings.model_copy(update={"position_secret": SecretStr(token_urlsafe(32))})


def run_front(port: int | None) -> int:
    """Serves both sides until SIGTERM or SIGINT, on one port, as the original Express API did."""
    settings = front_settings(port)
    door, transport = load_identity(settings.host), load_transport(settings.host)
    catalogue = load_catalogue(settings.event_types_file)
    sealing = load_sealing(catalogue, settings.startup_timeout_ms)
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    require_own_sessions(settings.database_url.get_secret_value(), settings.replica_database_url.get_secret_value())
    queries = QuerySide(settings, catalogue, door.policy)
    limits = limit_side(
        settings,
        is_open=door.is_open(),
        commands=settings.max_requests_in_flight,
        requests=settings.max_connections,
    )
    commands = CommandSide(settings, catalogue, sealing)
    if settings.console_url:
        door = msgspec.structs.replace(door, first=[*door.first, leading_to(settings.console_url)])
    return serve_sides("front", settings, door, limits, transport, commands, queries, on_exit=queries.end_streams)


def leading_to(console_url: str) -> RequestPolicy:
    """A policy that leads browsers from `/console` to the console, whoever they are: they sign in there."""
    there = Answer(307, ((b"location", f"{console_url}/console".encode()),))
    return lambda head: there if head.path == "/console" and head.method in ("GET", "HEAD") else ADMIT
