"""`footfall status` and `footfall replay`: looking at what is there, and changing nothing."""

import sys
from datetime import datetime
from typing import Any, Literal

import rich_click as click

from footfall.cli.dlq import Moment
from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option

EVENT_TYPES = ("LOGIN", "LOGOUT", "PRODUCT_VIEW")  # not imported: --help is quick
UNREACHABLE = 2  # exit code


@click.command()
@state_dir_option
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
    from footfall.cli.output.status import show
    from footfall.cli.settings import operator_settings
    from projector.settings import ProjectorSettings

    settings = operator_settings(ProjectorSettings, "projector")
    with readable_failures("status", UNREACHABLE):
        sys.exit(show(settings, as_json=as_json, watch=watch, max_lag=max_lag))


@click.command()
@state_dir_option
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
    from footfall.cli.output.replay import run
    from operations.replay import Span, Wanted

    span = Span(_bound("from", rest), _bound("to", rest), partitions)
    from footfall.cli.settings import operator_settings

    settings = operator_settings(KafkaSettings, "projector")
    with readable_failures("replay", UNREACHABLE, server="Kafka"):
        sys.exit(run(settings, span, Wanted(**rest), limit, form, handler))


def _bound(name: str, options: dict[str, Any]) -> int | datetime | None:
    """Takes the offset or the time of this name out of the options, or a usage error."""
    offset: int | None = options.pop(f"{name}_offset")
    time: datetime | None = options.pop(f"{name}_time")
    if offset is not None and time is not None:
        raise click.UsageError(f"--{name}-offset and --{name}-time are two ways to say the same: give one.")
    return time if offset is None else offset
