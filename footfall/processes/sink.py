"""Runs `footfall sink` and maps its end to an exit code."""

import os
from collections.abc import Callable

from contracts.event import PERSONAL_FIELDS
from footfall.processes.environment import exit_with, load_catalogue
from footfall.processes.identity import load_identity
from footfall.processes.own_sessions import require_own_sessions
from footfall.processes.projector import exit_code_of, serving
from footfall.processes.transport import load_transport
from projector import failpoints
from sinks.app import run_sink
from sinks.settings import SinkSettings
from sinks.target import Target
from telemetry.logs import configure_logs


def run_sink_process(kind: str, settings: SinkSettings, port: int | None, *, anew: bool) -> int:
    """Writes the log into a target until SIGTERM or SIGINT, and returns the exit code as the projector does.

    Args:
        kind: One of `KINDS`.
        settings: Of the sink.
        port: Of health and metrics; None: as the settings say.
        anew: Begin at the beginning of the log.
    """
    name = schema_of(kind, settings)
    address = settings.projector_host, settings.sink_port if port is None else port
    door, transport = load_identity(settings.projector_host), load_transport(settings.projector_host)
    failpoints.arm(os.environ)
    catalogue = load_catalogue(settings.event_types_file)
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    require_own_sessions(settings.database_url.get_secret_value())
    target = KINDS[kind](settings)
    return exit_code_of(
        "sink",
        serving(
            "sink",
            address,
            door,
            transport,
            lambda stop, probes: run_sink(settings, catalogue, name, target, stop, probes, anew=anew),
        ),
    )


def schema_of(kind: str, settings: SinkSettings) -> str:
    """Returns the schema with the checkpoints and dead letters of a sink."""
    return f"sink_{settings.sink_name or kind}"


def _duckdb(settings: SinkSettings) -> Target:
    try:
        from sinks.targets.duckdb_file import DuckDbFile  # noqa: PLC0415 - an extra
    except ImportError:
        exit_with(["The sink duckdb needs more packages: pip install 'footfall[duckdb]'"])
    return DuckDbFile(settings.sink_duckdb_file)


def _bigquery(settings: SinkSettings) -> Target:
    from sinks.targets.bigquery.dataset import BigQueryDataset  # noqa: PLC0415 - only what runs is imported

    if not settings.sink_bigquery_dataset:
        exit_with(["SINK_BIGQUERY_DATASET is not set: project.dataset"])
    return BigQueryDataset(settings)


def _search(settings: SinkSettings) -> Target:
    from sinks.targets.search.cluster import SearchCluster  # noqa: PLC0415 - only what runs is imported

    return SearchCluster(settings)


KINDS: dict[str, Callable[[SinkSettings], Target]] = {
    "bigquery": _bigquery,
    "duckdb": _duckdb,
    "elasticsearch": _search,
    "opensearch": _search,
}
