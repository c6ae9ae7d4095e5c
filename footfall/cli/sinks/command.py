"""`footfall sink`: copies the events into an engine for analysts."""

import sys

import rich_click as click

from footfall.cli.options import state_dir_option

NAMES = ("bigquery", "duckdb", "elasticsearch", "opensearch")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port of health and metrics; 0: any free one.  [default: the setting SINK_PORT]",
)
@state_dir_option
@click.option("--anew", is_flag=True, help="Begin again at the beginning of the log; what is stored stays once.")
def sink(name: str, port: int | None, *, anew: bool) -> None:
    """Run one sink: it reads events from Kafka and writes each once into an engine for analysts.

    NAME is the engine. Checkpoints and dead letters are kept in PostgreSQL, in the schema `sink_NAME`; SINK_NAME
    gives it another name, for a second sink of one kind. It reads KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL (a member of
    footfall_writer), SINK_PORT (3005) and what its engine needs (docs/sinks.md). Without DATABASE_URL both servers are
    those of the `footfall up` that runs in --state-dir.

    Erasures reach the sink as they reach the read model. Of a sealed log it writes only what is in the clear.

    \b
    Engines:
      bigquery        tables in SINK_BIGQUERY_DATASET
      duckdb          the file SINK_DUCKDB_FILE (pip install 'footfall[duckdb]')
      elasticsearch   data streams at SINK_URL, as SINK_USER with SINK_PASSWORD
      opensearch      the same

    \b
    Examples:
      SINK_DUCKDB_FILE=events.duckdb footfall sink duckdb
      SINK_NAME=acme SINK_TENANTS=acme SINK_DUCKDB_FILE=acme.duckdb footfall sink duckdb

    \b
    Exit codes:
      0   SIGTERM or SIGINT; the current batch is committed first
      1   a setting is wrong, or a server stays away for STARTUP_TIMEOUT_MS
      70  it made no progress although there was work: start it again
    """
    from footfall.cli.settings import operator_settings
    from footfall.processes.sink import run_sink_process
    from sinks.settings import SinkSettings

    sys.exit(run_sink_process(name, operator_settings(SinkSettings, "projector"), port, anew=anew))
