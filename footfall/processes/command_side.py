"""Runs `footfall command-side`. It imports nothing else, so that the process starts quickly."""

from command_side.app import CommandSide
from command_side.settings import CommandSettings
from contracts.event import PERSONAL_FIELDS
from footfall.processes.environment import load_catalogue, load_settings
from footfall.processes.identity import load_identity
from footfall.processes.sealing import load_sealing
from footfall.processes.serving import serve_sides
from footfall.processes.transport import load_transport
from telemetry.logs import configure_logs
from web.policies.limits.limit_side import limit_side


def run_command_side(port: int | None) -> int:
    """Serves the command side until SIGTERM or SIGINT."""
    settings = load_settings(CommandSettings, port=port)
    door, transport = load_identity(settings.host), load_transport(settings.host)
    catalogue = load_catalogue(settings.event_types_file)
    sealing = load_sealing(catalogue, settings.startup_timeout_ms)
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    limits = limit_side(
        settings,
        is_open=door.is_open(),
        commands=settings.max_requests_in_flight,
        requests=settings.max_connections,
    )
    return serve_sides("command-side", settings, door, limits, transport, CommandSide(settings, catalogue, sealing))
