"""`footfall dlq`: look at dead letters, process them again, give them up."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import rich_click as click

from footfall.cli.options import state_dir_option

STATES = ("parked", "redriven", "discarded")
CAUSES = ("poison", "newer_version", "behind")

Command = TypeVar("Command", bound=Callable[..., Any])


class Moment(click.ParamType[datetime]):
    """ISO 8601; UTC when it names no offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment in UTC, or a usage error."""
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
        """The first and the last, None where open, or a usage error."""
        first, dash, last = value.partition("-")
        ends = [None if text == "" else text for text in ((first, last) if dash else (first, first))]
        if ends == [None, None] or not all(end is None or (end.isascii() and end.isdigit()) for end in ends):
            self.fail(f"{value!r} is not an offset or a range such as 17-40", param, ctx)
        return (None if ends[0] is None else int(ends[0]), None if ends[1] is None else int(ends[1]))


FILTERS = (
    click.option("--user", help="The user, as the record's key names them (other tenants': tenant/user)."),
    click.option("--error", help="The error's class, or a part of its message."),
    click.option("--cause", type=click.Choice(CAUSES), help="Why it was parked."),
    click.option("--since", type=Moment(), help="Parked at this time or later (ISO 8601, UTC)."),
    click.option("--until", type=Moment(), help="Parked before this time."),
    click.option("--topic", help="Topic of the record."),
    click.option("--partition", type=click.IntRange(0), help="Partition of the record."),
    click.option("--offset", "offsets", type=Offsets(), help="Offset of the record, or a range: 17, 17-40, 17-, -40."),
    click.option("--limit", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="Most letters."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
)

RUN = (
    click.option("--rate", type=click.FloatRange(0.1), help="Letters a second at most.  [default: no bound]"),
    click.option("--dry-run", is_flag=True, help="Do it all in a transaction, undo it, and say what happened."),
    click.option("--actor", help="Who does this, for the journal.  [default: the user of this terminal]"),
)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    return lambda command: functools.reduce(lambda found, option: option(found), reversed(options), command)


@click.group()
def dlq() -> None:
    """Dead letters: records that could not be applied, and those parked behind them.

    DATABASE_URL is that of a role that is a member of footfall_writer.
    """


@dlq.command("list")
@state_dir_option
@_with(*FILTERS)
@click.option(
    "--state", type=click.Choice((*STATES, "all")), default="parked", show_default=True, help="What became of it."
)
def dlq_list(limit: int, as_json: bool, state: str, **chosen: Any) -> None:
    """List dead letters by position, without their values."""
    from footfall.cli.output.dead_letters import filter_of, print_letters

    print_letters(filter_of(state=None if state == "all" else state, **chosen), limit, as_json=as_json)


@dlq.command("show")
@state_dir_option
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--raw", is_flag=True, help="With the value: personal data.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def dlq_show(topic: str, partition: int, offset: int, raw: bool, as_json: bool) -> None:
    """Show one dead letter: where it came from, its headers, and why it was parked."""
    from footfall.cli.output.dead_letters import print_letter

    print_letter(topic, partition, offset, raw=raw, as_json=as_json)


@dlq.command("redrive")
@state_dir_option
@_with(*FILTERS, *RUN)
def dlq_redrive(limit: int, as_json: bool, rate: float | None, dry_run: bool, actor: str | None, **chosen: Any) -> None:
    """Process dead letters again, in order, together with those parked behind them.

    A letter that still cannot be applied stays, and so do those behind it. Doing it twice applies once.
    """
    from footfall.cli.output.dead_letters import filter_of, options_of, redrive

    redrive(filter_of(**chosen), options_of(actor, limit, rate, dry_run=dry_run), as_json=as_json)


@dlq.command("discard")
@state_dir_option
@_with(*FILTERS, *RUN)
@click.option("--yes", is_flag=True, help="Do not ask.")
def dlq_discard(
    limit: int, as_json: bool, rate: float | None, dry_run: bool, actor: str | None, yes: bool, **chosen: Any
) -> None:
    """Give dead letters up: their events will never be applied. At least one filter is needed.

    Those parked behind them stay parked until they are redriven. The bytes are kept.
    """
    from footfall.cli.output.dead_letters import discard, filter_of, options_of

    if all(value is None for value in chosen.values()):
        raise click.UsageError("Say which letters to discard: at least one filter.")
    options = options_of(actor, limit, rate, dry_run=dry_run)
    discard(filter_of(**chosen), options, as_json=as_json, ask=not yes and not dry_run)
