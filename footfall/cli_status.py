"""`footfall status` and `footfall replay`: looking at what is there, and changing nothing."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

import rich_click as click

from footfall.cli_dlq import Moment

EVENT_TYPES = ("LOGIN", "LOGOUT", "PRODUCT_VIEW")  # not imported: --help is quick
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


@click.command()
@click.option("--from-offset", type=click.IntRange(0), help="First offset, in each partition.  [default: the oldest]")
@click.option("--from-time", type=Moment(), help="First record at this time or later (ISO 8601, UTC).")
@click.option("--to-offset", type=click.IntRange(0), help="Offset to stop before.  [default: the end, as it is now]")
@click.option("--to-time", type=Moment(), help="Stop before the first record at this time or later.")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Of this partition only (again)."
)
@click.option("--user", help="Events of this user only.")
@click.option("--tenant", help="Events of this tenant only.")
@click.option("--type", "event_type", type=click.Choice(EVENT_TYPES), help="Events of this type only.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many events.")
@click.option("--format", "form", type=click.Choice(["json", "table"]), default="json", show_default=True, help="How.")
@click.option("--handler", help="module:function to call with each event, instead of printing it.")
def replay(
    limit: int | None, form: Literal["json", "table"], handler: str | None, partitions: tuple[int, ...], **rest: Any
) -> None:
    """Read the log again: print its events as lines of JSON, or call a handler with each.

    The read model is not touched, nor is any consumer group. Events of one partition come in the log's order. It ends
    where the log ended when it began. Malformed records are reported on standard error and passed over.

    Exit code: 0 at the end, 1 when the handler failed (it says where), 2 when Kafka cannot be reached.
    """
    from contracts.settings import KafkaSettings
    from footfall.environment import load_settings
    from footfall.replay import Span, Wanted
    from footfall.replay_terminal import run

    span = Span(_bound("from", rest), _bound("to", rest), partitions)
    settings = load_settings(KafkaSettings)
    with servers_reached("replay", "Kafka"):
        sys.exit(run(settings, span, Wanted(**rest), limit, form, handler))


def _bound(name: str, options: dict[str, Any]) -> int | datetime | None:
    """Takes the offset or the time of this name out of the options, or a usage error."""
    offset: int | None = options.pop(f"{name}_offset")
    time: datetime | None = options.pop(f"{name}_time")
    if offset is not None and time is not None:
        raise click.UsageError(f"--{name}-offset and --{name}-time are two ways to say the same: give one.")
    return time if offset is None else offset


@contextmanager
def servers_reached(what: str, usual: str = "PostgreSQL") -> Iterator[None]:
    """Turns a failure to reach a server into one readable line and exit 2. `usual`: whose errors plain ones are."""
    import asyncpg
    from aiokafka.errors import KafkaError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs before it raises is said below
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError) as error:
        server = "Kafka" if isinstance(error, KafkaError) else usual
        text = (str(error).splitlines() or [""])[0]
        click.echo(f"footfall: {what}: {server} cannot be used: {type(error).__name__}: {text}", err=True)
        sys.exit(UNREACHABLE)
