"""`footfall status` and `footfall replay`: looking at what is there, and changing nothing."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click

UNREACHABLE = 2  # exit code


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@click.option(
    "--max-lag", type=click.IntRange(0), help="Events that a partition may lag before it counts as a problem."
)
def status(as_json: bool, watch: bool, max_lag: int | None) -> None:
    """Show where each partition of each generation stands, who has it, and what is parked.

    DATABASE_URL is that of any role, a reader's too. Exit code: 0 when all is well, 1 when something has stopped, is
    nobody's or lags beyond --max-lag, 2 when Kafka or PostgreSQL cannot be reached.
    """
    from footfall.environment import load_settings
    from footfall.status_terminal import show
    from projector.settings import ProjectorSettings

    settings = load_settings(ProjectorSettings)
    with servers_reached("status"):
        sys.exit(show(settings, as_json=as_json, watch=watch, max_lag=max_lag))


@contextmanager
def servers_reached(what: str) -> Iterator[None]:
    """Turns a failure to reach a server into one readable line and exit 2."""
    import asyncpg
    from aiokafka.errors import KafkaError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs before it raises is said below
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError) as error:
        server = "Kafka" if isinstance(error, KafkaError) else "PostgreSQL"
        text = (str(error).splitlines() or [""])[0]
        click.echo(f"footfall: {what}: {server} cannot be used: {type(error).__name__}: {text}", err=True)
        sys.exit(UNREACHABLE)
