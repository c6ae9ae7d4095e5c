"""`footfall dlq`: lists, redrives and discards dead letters."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import rich_click as click

from footfall.cli.options import state_dir_option
from footfall.cli.sinks.command import NAMES

STATES = ("parked", "redriven", "discarded")
CAUSES = ("poison", "newer_version", "behind")

Command = TypeVar("Command", bound=Callable[..., Any])


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601; UTC if it names no offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Returns the time in UTC. Fails with a usage error if the text is no time."""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-01-31T12:00:00Z", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Offsets(click.ParamType["tuple[int | None, int | None]"]):
    """One offset, or a range of them with both ends: 17, 17-40, 17-, -40."""

    name = "offsets"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        """Returns the first and the last offset, None for an open end. Fails with a usage error."""
        first, dash, last = value.partition("-")
        ends = [None if text == "" else text for text in ((first, last) if dash else (first, first))]
        if ends == [None, None] or not all(end is None or (end.isascii() and end.isdigit()) for end in ends):
            self.fail(f"{value!r} is not an offset or a range such as 17-40", param, ctx)
        return (None if ends[0] is None else int(ends[0]), None if ends[1] is None else int(ends[1]))


FILTERS = (
    click.option("--tenant", help="Letters of this tenant, as the record's key names it."),
    click.option("--user", help="Letters of this user, as the record's key names them."),
    click.option("--error", help="Letters with this error class, or with this text in the error message."),
    click.option(
        "--cause",
        type=click.Choice(CAUSES),
        help="Why the letter was parked. poison: it can never be applied; newer_version: this projector does not know "
        "its version; behind: an earlier record of its key is parked.",
    ),
    click.option("--since", type=Moment(), help="Letters parked at this time or later (ISO 8601, UTC)."),
    click.option("--until", type=Moment(), help="Letters parked before this time (ISO 8601, UTC)."),
    click.option("--topic", help="Letters from this topic."),
    click.option("--partition", type=click.IntRange(0), help="Letters from this partition."),
    click.option("--offset", "offsets", type=Offsets(), help="One offset or a range of offsets: 17, 17-40, 17-, -40."),
    click.option(
        "--limit", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="Letters at most."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output."),
)

SINK = click.option(
    "--sink",
    type=click.Choice(NAMES),
    help="Letters of this sink, with the settings of `footfall sink`, SINK_NAME too.  [default: the read model's]",
)

RUN = (
    click.option("--rate", type=click.FloatRange(0.1), help="Letters a second at most.  [default: no bound]"),
    click.option("--dry-run", is_flag=True, help="Do everything in a transaction, roll it back, and print the result."),
    click.option("--actor", help="Who does this, for the journal.  [default: the user of this terminal]"),
)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    return lambda command: functools.reduce(lambda found, option: option(found), reversed(options), command)


@click.group()
def dlq() -> None:
    """List dead letters, process them again (redrive), or discard them.

    A dead letter is a record that could not be applied, or a later record of the same key, which waits behind it to
    keep the user's events in order. DATABASE_URL must name a member of footfall_writer.

    \b
    Examples:
      footfall dlq list                                  what is parked
      footfall dlq show user-activity-events 3 1742      one letter: headers, error, times
      footfall dlq redrive --cause newer_version         after an upgrade that knows the version
      footfall dlq redrive --user u-17 --dry-run         what would happen
      footfall dlq discard --user u-17 --offset 40-44    never apply these
      footfall dlq list --sink duckdb                    what a sink has set aside
    """


@dlq.command("list")
@state_dir_option
@SINK
@_with(*FILTERS)
@click.option(
    "--state",
    type=click.Choice((*STATES, "all")),
    default="parked",
    show_default=True,
    help="parked: still waiting; redriven: applied later; discarded: given up.",
)
def dlq_list(limit: int, as_json: bool, state: str, sink: str | None, **chosen: Any) -> None:
    """List dead letters by partition and offset, without the records' values.

    \b
    Examples:
      footfall dlq list --state all --since 2026-01-31
      footfall dlq list --partition 3 --offset 100-200 --json
    """
    from footfall.cli.output.dead_letters import filter_of, print_letters

    print_letters(filter_of(state=None if state == "all" else state, **chosen), limit, as_json=as_json, sink=sink)


@dlq.command("show")
@state_dir_option
@SINK
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--raw", is_flag=True, help="Show the record's value, too. It may hold personal data.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def dlq_show(topic: str, partition: int, offset: int, raw: bool, as_json: bool, sink: str | None) -> None:
    """Show the dead letter of the record at TOPIC, PARTITION and OFFSET: headers, error, times.

    Exits 1 if there is none.

    \b
    Example:
      footfall dlq show user-activity-events 3 1742 --raw
    """
    from footfall.cli.output.dead_letters import print_letter

    print_letter(topic, partition, offset, raw=raw, as_json=as_json, sink=sink)


@dlq.command("redrive")
@state_dir_option
@SINK
@_with(*FILTERS, *RUN)
def dlq_redrive(
    limit: int,
    as_json: bool,
    rate: float | None,
    dry_run: bool,
    actor: str | None,
    sink: str | None,
    **chosen: Any,
) -> None:
    """Process dead letters again, in order, together with the letters parked behind them.

    Without a filter it takes every parked letter. A letter that still cannot be applied stays parked, and so do the
    letters behind it. A letter is never applied twice. Letters of a sink have no order: none waits for another.

    \b
    Examples:
      footfall dlq redrive --dry-run                     what would happen
      footfall dlq redrive --cause newer_version         after an upgrade that knows the version
      footfall dlq redrive --user u-17 --rate 100        one user, 100 letters a second at most
    """
    from footfall.cli.output.dead_letters import filter_of, options_of, redrive

    if sink is not None and dry_run:
        raise click.UsageError("A sink's engine cannot take a letter and forget it again: leave --dry-run away.")
    redrive(filter_of(**chosen), options_of(actor, limit, rate, dry_run=dry_run), as_json=as_json, sink=sink)


@dlq.command("discard")
@state_dir_option
@SINK
@_with(*FILTERS, *RUN)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def dlq_discard(
    limit: int,
    as_json: bool,
    rate: float | None,
    dry_run: bool,
    actor: str | None,
    yes: bool,
    sink: str | None,
    **chosen: Any,
) -> None:
    """Discard dead letters: their events will never be applied. At least one filter is needed.

    Letters parked behind them stay parked until they are redriven. The bytes of a discarded letter are kept, and a
    rebuild skips its record (unless started with --forget-discards).

    \b
    Examples:
      footfall dlq discard --user u-17 --offset 40-44
      footfall dlq discard --cause poison --until 2026-01-31 --dry-run
    """
    from footfall.cli.output.dead_letters import discard, filter_of, options_of

    if all(value is None for value in chosen.values()):
        raise click.UsageError("Say which letters to discard: at least one filter.")
    options = options_of(actor, limit, rate, dry_run=dry_run)
    discard(filter_of(**chosen), options, as_json=as_json, ask=not yes and not dry_run, sink=sink)
