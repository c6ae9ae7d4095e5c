"""`footfall status` and `footfall replay`: commands that read and change nothing."""

import sys
from datetime import datetime
from typing import Any, Literal

import rich_click as click

from footfall.cli.dlq import Moment
from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option

UNREACHABLE = 2  # exit code


@click.command()
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
@click.option(
    "--max-lag", type=click.IntRange(0), help="A partition that lags more events than this is a problem (exit code 1)."
)
def status(as_json: bool, watch: bool, max_lag: int | None) -> None:
    """Show position, lag, owner and state of each partition of each generation, and how many letters are parked.

    DATABASE_URL may name any of Footfall's roles; a member of footfall_reader is enough. Nothing is changed.

    \b
    Exit codes:
      0  all is well
      1  a partition has stopped, has no owner, or lags more than --max-lag
      2  Kafka or PostgreSQL cannot be reached
    Examples:
      footfall status
      footfall status --watch
      footfall status --json --max-lag 10000     for a monitoring job
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
@click.option("--from-time", type=Moment(), help="Begin at the first record of this time or later (ISO 8601, UTC).")
@click.option("--to-offset", type=click.IntRange(0), help="Stop before this offset.  [default: the end as it is now]")
@click.option("--to-time", type=Moment(), help="Stop before the first record of this time or later (ISO 8601, UTC).")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this partition; may be repeated."
)
@click.option("--user", help="Events of this user only.")
@click.option("--tenant", help="Events of this tenant only.")
@click.option("--type", "event_type", metavar="NAME", help="Events of this type only.")
@click.option("--limit", type=click.IntRange(1), help="Stop after this many events.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "table"]),
    default="json",
    show_default=True,
    help="json: one JSON object a line; table: columns for reading.",
)
@click.option(
    "--handler",
    help="module:function that is called with each event instead of printing it; the working directory is searched.",
)
def replay(
    limit: int | None, form: Literal["json", "table"], handler: str | None, partitions: tuple[int, ...], **rest: Any
) -> None:
    """Read the log again: print its events as lines of JSON, or call a handler with each.

    It touches neither the read model nor any consumer group. Events of one partition come in the log's order. It stops
    where the log ended when it began. A malformed record is reported on standard error and skipped.

    \b
    Exit codes:
      0  it reached the end
      1  the handler failed (it says at which position)
      2  Kafka cannot be reached
    Examples:
      footfall replay --from-time 2026-01-31 --user user-1
      footfall replay --partition 3 --from-offset 1700 --to-offset 1800 --format table
      footfall replay --handler my_module:my_function
    """
    from brokers.settings import KafkaSettings
    from footfall.cli.output.replay import run
    from operations.replay import ReplayFilter, Span

    span = Span(_bound("from", rest), _bound("to", rest), partitions)
    from footfall.cli.settings import operator_settings

    settings = operator_settings(KafkaSettings, "projector")
    with readable_failures("replay", UNREACHABLE, server="Kafka"):
        sys.exit(run(settings, span, ReplayFilter(**rest), limit, form, handler))


def _bound(name: str, options: dict[str, Any]) -> int | datetime | None:
    """Removes --NAME-offset and --NAME-time from the options and returns the one that was given, or None."""
    offset: int | None = options.pop(f"{name}_offset")
    time: datetime | None = options.pop(f"{name}_time")
    if offset is not None and time is not None:
        raise click.UsageError(f"--{name}-offset and --{name}-time say the same in two ways: give one of them.")
    return time if offset is None else offset
