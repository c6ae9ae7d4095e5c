"""Runs `footfall console`: the console, and the query side whose stream and queries its pages use."""

import os

import msgspec

from console.app import ConsoleSide
from console.serving_at_once import ServingAtOnce
from console.sessions import LOOKING_ON, Sessions
from console.settings import ConsoleSettings
from contracts.event import PERSONAL_FIELDS
from footfall.processes.environment import load_catalogue, load_settings
from footfall.processes.identity import load_identity
from footfall.processes.own_sessions import require_own_sessions
from footfall.processes.sealing import making_keys
from footfall.processes.serving import serve_sides
from footfall.processes.transport import load_transport
from projector.settings import ProjectorSettings
from query_side.app import QuerySide
from telemetry.logs import configure_logs
from web.policies.limits.limit_side import limit_side


def run_console(port: int | None) -> int:
    """Serves the console until SIGTERM or SIGINT."""
    settings = load_settings(ConsoleSettings, port=port)
    os.environ.pop("FOOTFALL_ACTOR", None)  # who acts is whoever is signed in
    door, transport = load_identity(settings.host, LOOKING_ON), load_transport(settings.host)
    catalogue = load_catalogue(settings.event_types_file)
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    require_own_sessions(settings.database_url.get_secret_value(), settings.operator_database_url.get_secret_value())
    sessions = Sessions(door.policy, is_open=door.is_open())
    queries = QuerySide(settings, catalogue, sessions.lasting)
    keys = making_keys("footfall-console-keys")
    console = ConsoleSide(settings, looking_settings(settings), catalogue, sessions, keys)
    connections = settings.max_connections
    limits = limit_side(settings, is_open=door.is_open(), commands=connections, requests=connections)
    behind = door if sessions.is_open else msgspec.structs.replace(door, first=[*door.first, sessions])
    at_once = ServingAtOnce(queries, "queries")
    ends, pages = queries.end_streams, console.refusals
    return serve_sides("console", settings, behind, limits, transport, at_once, console, on_exit=ends, pages=pages)


def looking_settings(settings: ConsoleSettings) -> ProjectorSettings:
    """The servers, for what looks at them: as the operator's role, which sees more, where there is one."""
    url = settings.operator_database_url if settings.may_act() else settings.database_url
    return load_settings(ProjectorSettings, database_url=url)
