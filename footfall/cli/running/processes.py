"""The commands that run one process: what each does is in `footfall/processes/`, one file for a process."""

import sys

import rich_click as click

from footfall.cli.options import port_option


@click.command("command-side")
@port_option
def command_side(port: int | None) -> None:
    """Run the command side: it takes commands over HTTP and publishes events to Kafka.

    It reads KAFKA_BOOTSTRAP_SERVERS, HOST, PORT (3001) and more (see .env.example). On SIGTERM it answers the requests
    in flight and exits 0. It exits 1 if a setting is wrong, or if Kafka stays away for STARTUP_TIMEOUT_MS.
    """
    from footfall.processes.command_side import run_command_side

    sys.exit(run_command_side(port))


@click.command("query-side")
@port_option
def query_side(port: int | None) -> None:
    """Run the query side: it answers queries over HTTP from PostgreSQL.

    It reads DATABASE_URL (a member of footfall_reader), HOST, PORT (3002) and more (see .env.example). On SIGTERM it
    answers the requests in flight and exits 0. It exits 1 if a setting is wrong, or if PostgreSQL stays away for
    STARTUP_TIMEOUT_MS.
    """
    from footfall.processes.query_side import run_query_side

    sys.exit(run_query_side(port))


@click.command()
@port_option
def front(port: int | None) -> None:
    """Run the command side and the query side in one process, by default on port 3000.

    It reads the settings of both: KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL (a member of footfall_reader) and more (see
    .env.example). It ends as they do.
    """
    from footfall.processes.front import run_front

    sys.exit(run_front(port))


@click.command()
@port_option
def console(port: int | None) -> None:
    """Run the console: pages in a browser that show what is wrong and why, and let operators mend it.

    It reads DATABASE_URL (a member of footfall_reader), OPERATOR_DATABASE_URL (the owner; without it nobody can act),
    KAFKA_BOOTSTRAP_SERVERS, CONSOLE_WATCH_URLS, HOST, PORT (3004) and more (see docs/console.md). It ends as they do.
    """
    from footfall.processes.console import run_console

    sys.exit(run_console(port))


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port of health and metrics; 0: any free one.  [default: the setting PROJECTOR_PORT]",
)
def projector(port: int | None) -> None:
    """Run one projector: it reads events from Kafka and writes rows into PostgreSQL.

    Start several, at most one for each partition: they share the partitions. It reads KAFKA_BOOTSTRAP_SERVERS,
    DATABASE_URL (a member of footfall_writer), PROJECTOR_PORT (3003) and more (see .env.example).

    \b
    Exit codes:
      0   SIGTERM or SIGINT; the current batch is committed first
      1   a setting is wrong, or a server stays away for STARTUP_TIMEOUT_MS
      70  it made no progress although there was work: start it again
    """
    from footfall.processes.projector import run_projector_process

    sys.exit(run_projector_process(port))


PROCESSES = (command_side, query_side, front, console, projector)
