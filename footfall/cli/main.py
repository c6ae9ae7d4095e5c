"""The `footfall` command. Each subcommand imports what it needs in its function, so that `--help` is quick."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import rich_click as click
from rich.console import Console

from footfall.cli.archive.commands import archive
from footfall.cli.dlq import dlq
from footfall.cli.doctor import doctor
from footfall.cli.failures import fail, readable_failures
from footfall.cli.gaps import gaps
from footfall.cli.options import port_option
from footfall.cli.options import state_dir_option as running_state_option
from footfall.cli.privacy import privacy
from footfall.cli.rebuild import rebuild
from footfall.cli.rights.audit import audit
from footfall.cli.rights.keys import keys
from footfall.cli.rights.reporting import grant_reporter, sql
from footfall.cli.scaling.plan import plan
from footfall.cli.sealed.commands import SEALED_COMMANDS
from footfall.cli.sinks.command import sink
from footfall.cli.status import replay, status
from footfall.cli.topics import topics

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall"),
    show_default=True,
    help="Where the embedded servers keep their data.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="footfall")
@click.rich_config(help_config={"text_paragraph_linebreaks": "\n\n"})
def cli() -> None:
    """Footfall records what users do and answers questions about it.

    `footfall up` runs everything on this machine. Every other command runs one process or one task, and reads its
    settings from the environment; `.env.example` explains each variable. If the environment names no server, the
    operators' commands (status, doctor, replay, dlq, gaps, privacy, rebuild, archive, audit, migrate, topics,
    grant-reporter, sql) use the `footfall up` that runs here.

    \b
    Examples:
      footfall up                        everything, on port 3000, until Ctrl-C
      footfall status --watch            where each partition stands
      footfall doctor                    what is wrong, and what to do
      footfall rebuild --help            how to rebuild the read model
    """


@cli.command()
@state_dir_option
@click.option(
    "--port", type=click.IntRange(1, 65_535), help="HTTP port of both sides.  [default: 3000, or any free one]"
)
@click.option("--kafka-port", type=click.IntRange(1, 65_535), help="Port of Kafka.  [default: 9092, or any free one]")
@click.option(
    "--postgres-port", type=click.IntRange(1, 65_535), help="Port of PostgreSQL.  [default: 5432, or any free one]"
)
@click.option(
    "--brokers",
    type=click.Choice(["1", "3", "5"]),
    callback=lambda _context, _parameter, value: value and int(value),
    help="Kafka brokers; with 3 every event is on 3.  [default: those of --state-dir, or 1]",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1_000),
    help="Partitions of the topic, if this start creates it.  [default: 6; 10 with several brokers]",
)
@click.option("--projectors", type=click.IntRange(1, 16), default=1, show_default=True, help="Projector processes.")
@click.option(
    "--projector-port",
    type=click.IntRange(1, 65_535),
    help="Port of the first projector's health and metrics.  [default: 3003, or any free one]",
)
@click.option(
    "--secure",
    is_flag=True,
    help="TLS, passwords and rights at Kafka; HTTPS and keys at the front. See docs/transport.md.",
)
def up(port: int | None, **rest: Any) -> None:
    """Run a real Kafka, a real PostgreSQL and all of Footfall until Ctrl-C.

    Events are kept in --state-dir and are there again at the next start. Exits 0 after Ctrl-C or SIGTERM, and 1 if a
    process ends by itself. Logs are in the directory `logs` of --state-dir. One of several brokers that ends is started
    again; the others go on meanwhile.

    \b
    Examples:
      footfall up
      footfall up --brokers 3 --state-dir .footfall/cluster
      footfall up --port 8080 --state-dir /var/lib/footfall --projectors 2
      footfall up --secure --state-dir .footfall/secure
    """
    from footfall.local.running import RunOptions
    from footfall.local.up import up as run

    options = RunOptions(front_port=port, **rest)
    exit_with_stack_errors(lambda console: run(options, console))


@cli.command()
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall/demo"),
    show_default=True,
    help="Where the embedded servers keep the demo's data.",
)
@click.option(
    "--port", type=click.IntRange(1, 65_535), help="HTTP port of both sides.  [default: 3000, or any free one]"
)
@click.option(
    "--events", type=click.IntRange(10, 1_000_000), default=20_000, show_default=True, help="Valid events to post."
)
@click.option("--users", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Users of the events.")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Random seed; the same seed posts the same events."
)
@click.option(
    "--connections", type=click.IntRange(2, 1_000), default=32, show_default=True, help="Connections that post."
)
@click.option("--projectors", type=click.IntRange(1, 16), default=1, show_default=True, help="Projector processes.")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, with the console, until Ctrl-C.")
def demo(state_dir: Path, port: int | None, projectors: int, keep: bool, **rest: int) -> None:
    """Post a day of traffic, through a real Kafka and a real PostgreSQL, and account for every event.

    It starts everything, posts, prints a report and stops everything. Exits 0 only if exactly the accepted events were
    projected, otherwise 1.

    \b
    Examples:
      footfall demo
      footfall demo --keep
      footfall demo --events 200000 --connections 64 --projectors 2
    """
    from footfall.local.demo.account import DemoOptions
    from footfall.local.demo.command import demo as run
    from footfall.local.running import RunOptions

    options = DemoOptions(**rest)
    where = RunOptions(state_dir, port, projectors=projectors, console=keep)
    exit_with_stack_errors(lambda console: run(where, options, console, keep=keep))


@cli.command("command-side")
@port_option
def command_side(port: int | None) -> None:
    """Run the command side: it takes commands over HTTP and publishes events to Kafka.

    It reads KAFKA_BOOTSTRAP_SERVERS, HOST, PORT (3001) and more (see .env.example). On SIGTERM it answers the requests
    in flight and exits 0. It exits 1 if a setting is wrong, or if Kafka stays away for STARTUP_TIMEOUT_MS.
    """
    from footfall.processes.command_side import run_command_side

    sys.exit(run_command_side(port))


@cli.command("query-side")
@port_option
def query_side(port: int | None) -> None:
    """Run the query side: it answers queries over HTTP from PostgreSQL.

    It reads DATABASE_URL (a member of footfall_reader), HOST, PORT (3002) and more (see .env.example). On SIGTERM it
    answers the requests in flight and exits 0. It exits 1 if a setting is wrong, or if PostgreSQL stays away for
    STARTUP_TIMEOUT_MS.
    """
    from footfall.processes.query_side import run_query_side

    sys.exit(run_query_side(port))


@cli.command()
@port_option
def front(port: int | None) -> None:
    """Run the command side and the query side in one process, by default on port 3000.

    It reads the settings of both: KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL (a member of footfall_reader) and more (see
    .env.example). It ends as they do.
    """
    from footfall.processes.front import run_front

    sys.exit(run_front(port))


@cli.command()
@port_option
def console(port: int | None) -> None:
    """Run the console: pages in a browser that show what is wrong and why, and let operators mend it.

    It reads DATABASE_URL (a member of footfall_reader), OPERATOR_DATABASE_URL (the owner; without it nobody can act),
    KAFKA_BOOTSTRAP_SERVERS, CONSOLE_WATCH_URLS, HOST, PORT (3004) and more (see docs/console.md). It ends as they do.
    """
    from footfall.processes.console import run_console

    sys.exit(run_console(port))


@cli.command()
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


@cli.command()
@running_state_option
@click.option("--revision", default="head", show_default=True, help="Alembic revision to upgrade the schema to.")
def migrate(revision: str) -> None:
    """Bring the database schema up to date.

    DATABASE_URL must name the database's owner, who needs CREATEROLE. It waits up to 60 seconds for another
    migration, and 8 seconds for sessions that use the tables; then it names them. Running it again changes nothing.
    """
    from footfall.cli.settings import operator_settings
    from footfall.processes.own_sessions import require_own_sessions
    from operations.settings import MigrateSettings
    from operations.setup import migrate as run

    settings = operator_settings(MigrateSettings, "owner")
    require_own_sessions(settings.database_url.get_secret_value())
    with readable_failures("The migration failed"):
        run(settings, revision)
    click.echo(f"The schema is at {revision}.")


cli.add_command(archive)
cli.add_command(audit)
cli.add_command(dlq)
cli.add_command(gaps)
cli.add_command(keys)
for sealed_command in SEALED_COMMANDS:
    privacy.add_command(sealed_command)
cli.add_command(privacy)
cli.add_command(plan)
cli.add_command(status)
cli.add_command(doctor)
cli.add_command(replay)
cli.add_command(rebuild)
cli.add_command(sink)
cli.add_command(grant_reporter)
cli.add_command(sql)
cli.add_command(topics)


def exit_with_stack_errors(run: Callable[[Console], int]) -> Never:
    """Calls `run` with a console and exits with the code that it returns; prints a StackError and exits 1.

    A catalogue of event types that is not usable ends it before a server is started: in a process that it starts, only
    the log would say why.
    """
    from command_side.settings import CommandSettings
    from footfall.local.embedded import StackError
    from footfall.processes.environment import load_catalogue, load_settings

    load_catalogue(load_settings(CommandSettings).event_types_file)
    console = Console()
    try:
        sys.exit(run(console))
    except StackError as error:
        fail(str(error))


def main() -> None:
    """Runs the command line: entry point of the console script."""
    cli()
