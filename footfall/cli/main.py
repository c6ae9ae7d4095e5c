"""The `footfall` command. Each subcommand imports what it needs, so that `--help` is quick."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

import rich_click as click
from rich.console import Console

from footfall.cli.dlq import dlq
from footfall.cli.failures import fail, readable_failures
from footfall.cli.gaps import gaps
from footfall.cli.options import state_dir_option as running_state_option
from footfall.cli.rebuild import rebuild
from footfall.cli.reporting import grant_reporter, sql
from footfall.cli.status import replay, status

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall"),
    show_default=True,
    help="Where the embedded servers keep their data.",
)
port_option = click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="footfall")
def cli() -> None:
    """Footfall records what users do and answers questions about it.

    `footfall up` runs everything here; the other commands run one process or one task each, configured by the
    environment (see .env.example).
    """


@cli.command()
@state_dir_option
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the front.  [default: 3000, or any free one]")
@click.option("--kafka-port", type=click.IntRange(1, 65_535), help="Port of Kafka.  [default: 9092, or any free one]")
@click.option("--postgres-port", type=click.IntRange(1, 65_535), help="Port of PostgreSQL.  [default: 5432, or any]")
@click.option(
    "--partitions", type=click.IntRange(1, 1_000), default=6, show_default=True, help="When the topic is new."
)
@click.option("--projectors", type=click.IntRange(1, 16), default=1, show_default=True, help="Projector processes.")
@click.option(
    "--projector-port",
    type=click.IntRange(1, 65_535),
    help="Port of the first projector's health and metrics.  [default: 3003, or any free one]",
)
def up(
    state_dir: Path,
    port: int | None,
    kafka_port: int | None,
    postgres_port: int | None,
    partitions: int,
    projectors: int,
    projector_port: int | None,
) -> None:
    """Run a real Kafka, a real PostgreSQL and all of Footfall until Ctrl-C."""
    from footfall.local.running import RunOptions
    from footfall.local.up import up as run

    options = RunOptions(state_dir, port, kafka_port, postgres_port, partitions, projectors, projector_port)
    exit_with_stack_errors(lambda console: run(options, console))


@cli.command()
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall/demo"),
    show_default=True,
    help="Where the embedded servers keep the demo's data.",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the front.  [default: 3000, or any free one]")
@click.option("--events", type=click.IntRange(10, 1_000_000), default=20_000, show_default=True, help="Valid events.")
@click.option("--users", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Users they belong to.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same day.")
@click.option("--connections", type=click.IntRange(2, 1_000), default=32, show_default=True, help="Posting at once.")
@click.option("--projectors", type=click.IntRange(1, 16), default=1, show_default=True, help="Projector processes.")
def demo(
    state_dir: Path, port: int | None, events: int, users: int, seed: int, connections: int, projectors: int
) -> None:
    """Send a day of traffic through a real Kafka and a real PostgreSQL, and account for every event.

    Ends by itself; exit 0 only when what was accepted is exactly what was projected.
    """
    from footfall.local.demo.command import demo as run
    from footfall.local.demo.run import DemoOptions
    from footfall.local.running import RunOptions

    options = DemoOptions(events=events, users=users, seed=seed, connections=connections)
    where = RunOptions(state_dir, port, projectors=projectors)
    exit_with_stack_errors(lambda console: run(where, options, console))


@cli.command("command-side")
@port_option
def command_side(port: int | None) -> None:
    """Run the command side alone: HTTP in, Kafka out."""
    from footfall.processes.command_side import run_command_side

    sys.exit(run_command_side(port))


@cli.command("query-side")
@port_option
def query_side(port: int | None) -> None:
    """Run the query side alone: PostgreSQL in, HTTP out."""
    from footfall.processes.query_side import run_query_side

    sys.exit(run_query_side(port))


@cli.command()
@port_option
def front(port: int | None) -> None:
    """Run both sides in one process, on port 3000 unless told otherwise."""
    from footfall.processes.front import run_front

    sys.exit(run_front(port))


@cli.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Port of health and metrics.")
def projector(port: int | None) -> None:
    """Run one projector: Kafka in, rows out. Start as many as there are partitions, at most."""
    from footfall.processes.projector import run_projector_process

    sys.exit(run_projector_process(port))


@cli.command()
@running_state_option
@click.option("--revision", default="head", show_default=True, help="Alembic revision to bring the schema to.")
def migrate(revision: str) -> None:
    """Bring the database schema up to date. DATABASE_URL is the owner's."""
    from footfall.cli.settings import operator_settings
    from footfall.processes.own_sessions import require_own_sessions
    from operations.settings import MigrateSettings
    from operations.setup import migrate as run

    settings = operator_settings(MigrateSettings, "owner")
    require_own_sessions(settings.database_url.get_secret_value())
    with readable_failures("The migration failed"):
        run(settings, revision)
    click.echo(f"The schema is at {revision}.")


@cli.group()
def topics() -> None:
    """Kafka topics."""


@topics.command("create")
@running_state_option
def topics_create() -> None:
    """Create the topics that are missing; existing ones stay as they are, and how they differ is told."""
    from footfall.cli.settings import operator_settings
    from operations.settings import TopicSettings
    from operations.setup import create_topics

    settings = operator_settings(TopicSettings, "owner")
    with readable_failures("The topics were not created", server="Kafka"):
        for topic, found in create_topics(settings).items():
            click.echo(f"{topic}: {found.outcome}")
            for sentence in found.differs:
                click.echo(f"  {sentence}", err=True)


cli.add_command(dlq)
cli.add_command(gaps)
cli.add_command(status)
cli.add_command(replay)
cli.add_command(rebuild)
cli.add_command(grant_reporter)
cli.add_command(sql)


def exit_with_stack_errors(run: Callable[[Console], int]) -> Never:
    """Runs on a console and exits with its code; a StackError is one readable text and exit 1."""
    from footfall.local.embedded import StackError

    console = Console()
    try:
        sys.exit(run(console))
    except StackError as error:
        fail(str(error))


def main() -> None:
    """Entry point of the console script."""
    cli()
