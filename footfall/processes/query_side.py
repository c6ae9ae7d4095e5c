"""Runs `footfall query-side`."""

from contracts.event import PERSONAL_FIELDS
from footfall.processes.environment import load_catalogue, load_settings
from footfall.processes.identity import load_identity
from footfall.processes.own_sessions import require_own_sessions
from footfall.processes.serving import serve_sides
from footfall.processes.transport import load_transport
from query_side.app import QuerySide
from query_side.settings import QuerySettings
from telemetry.logs import configure_logs
from web.policies.limits.limit_side import limit_side


def run_query_side(port: int | None) -> int:
    """Serves the query side until SIGTERM or SIGINT."""
    settings = load_settings(QuerySettings, port=port)
    door, transport = load_identity(settings.host), load_transport(settings.host)
    catalogue = load_catalogue(settings.event_types_file)
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    require_own_sessions(settings.database_url.get_secret_value(), settings.replica_database_url.get_secret_value())
    side = QuerySide(settings, catalogue, door.policy)
    connections = settings.max_connections
    limits = limit_side(settings, is_open=door.is_open(), commands=connections, requests=connections)
    return serve_sides("query-side", settings, door, limits, transport, side, on_exit=side.end_streams)
