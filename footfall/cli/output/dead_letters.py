"""Turns the options of `footfall dlq` into filters, and prints its results as tables, progress bars or JSON."""

import asyncio
import getpass
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from contracts.event import DEFAULT_TENANT, PERSONAL_FIELDS
from footfall.cli.failures import readable_failures
from footfall.cli.sealed.key_store import operator_keys
from footfall.cli.settings import operator_settings
from footfall.cli.sinks.letters import Deal, discarding, redriving, settings_of
from footfall.processes.environment import load_catalogue, tracing
from operations.audit.deed import actor_name
from operations.dead_letters import discard_letters, list_letters, redrive_letters, show_letter
from operations.settings import DlqSettings
from projector.dead_letters.letter_filter import LetterFilter
from projector.dead_letters.redrive import LetterOutcome, Options
from projector.dead_letters.redrive_attempt import RedriveError
from projector.writing.failure import OutsideError
from read_model.wire_time import encoded
from sealing.errors import KeysError
from telemetry.logs import configure_logs

SHOWN = 50  # letters of a run that are listed in a terminal; --json lists all
LONG_RUN = 200  # a run of this many letters shows a progress bar

Found = TypeVar("Found")


def filter_of(offsets: tuple[int | None, int | None] | None, state: str | None = None, **named: Any) -> LetterFilter:
    """Makes the filter from the command's options."""
    first, last = offsets or (None, None)
    return LetterFilter(from_offset=first, to_offset=last, state=state, **named)


def options_of(actor: str | None, limit: int, rate: float | None, *, dry_run: bool) -> Options:
    """Makes the options of a redrive or discard. Without an actor: FOOTFALL_ACTOR, or the user of this terminal."""
    name = actor or os.environ.get("FOOTFALL_ACTOR") or _user()
    return Options(actor=name, audited_as=actor or actor_name(name), limit=limit, rate=rate, dry_run=dry_run)


def _user() -> str:
    try:
        return os.environ.get("USER") or getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        return f"uid {os.getuid()}"


def print_letters(chosen: LetterFilter, limit: int, *, as_json: bool, sink: str | None) -> None:
    """Prints the matching letters as a table or as JSON. `sink`: the kind of one; None: the read model's letters."""
    letters, count = _answer(lambda settings, name: list_letters(settings, chosen, limit, name), sink)
    if as_json:
        _print_json({"count": count, "letters": letters})
        return
    table = Table("partition", "offset", "state", "cause", "user", "error", "attempts", "parked at")
    for letter in letters:
        error = letter["error_class"] if letter["cause"] != "behind" else f"waits for {letter['behind_offset']}"
        table.add_row(
            *(str(letter[name]) for name in ("kafka_partition", "kafka_offset", "state", "cause")),
            escape(user_of(letter)),
            error,
            str(letter["attempts"]),
            f"{letter['parked_at']:%Y-%m-%d %H:%M:%S}",
        )
    console = Console()
    console.print(table)
    console.print(f"{len(letters):,} of {count:,} dead letters.")


def user_of(letter: dict[str, Any]) -> str:
    """The letter's user as the table shows it: of another tenant than the default, behind that tenant."""
    user = letter["user_id"] or "-"
    return user if letter["tenant_id"] == DEFAULT_TENANT else f"{letter['tenant_id']}: {user}"


def print_letter(topic: str, partition: int, offset: int, *, raw: bool, as_json: bool, sink: str | None) -> None:
    """Prints one letter, with the record's value only if `raw`. Exits 1 if there is none. `sink`: as above."""
    letter = _answer(lambda settings, name: show_letter(settings, topic, partition, offset, raw=raw, sink=name), sink)
    if letter is None:
        click.echo(f"footfall: there is no dead letter at {topic}, partition {partition}, offset {offset}", err=True)
        sys.exit(1)
    if as_json:
        _print_json(letter)
        return
    headers = letter.pop("headers")
    for name, value in letter.items():
        click.echo(f"{name + ':':18} {'-' if value is None else value}")
    for name, value in headers:
        click.echo(f"{'header:':18} {name}: {value}")


def redrive(chosen: LetterFilter, options: Options, *, as_json: bool, sink: str | None) -> None:
    """Runs a redrive and prints its result. `sink`: as above."""
    _deal(redrive_letters if sink is None else redriving(sink), chosen, options, as_json=as_json, sink=sink)


def discard(chosen: LetterFilter, options: Options, *, as_json: bool, ask: bool, sink: str | None) -> None:
    """Runs a discard and prints its result; if `ask`, it asks for confirmation first. `sink`: as above."""
    if ask:
        count = min(_answer(lambda settings, name: _parked(settings, chosen, name), sink), options.limit)
        click.confirm(f"Discard {count:,} dead letters for ever?", abort=True, err=True)
    _deal(discard_letters if sink is None else discarding(sink), chosen, options, as_json=as_json, sink=sink)


async def _parked(settings: DlqSettings, chosen: LetterFilter, name: str | None) -> int:
    _, count = await list_letters(settings, msgspec.structs.replace(chosen, state="parked"), 0, name)
    return count


def _answer(ask: Callable[[DlqSettings, str | None], Coroutine[Any, Any, Found]], sink: str | None) -> Found:
    configure_logs("ERROR", PERSONAL_FIELDS)
    settings, name = (operator_settings(DlqSettings, "projector"), None) if sink is None else settings_of(sink)
    refusals = (RedriveError, KeysError, OutsideError)
    with readable_failures("The dead letters cannot be reached", refusals=refusals), tracing("dlq"):
        return asyncio.run(ask(settings, name))


def _deal(deal: Deal, chosen: LetterFilter, options: Options, *, as_json: bool, sink: str | None) -> None:
    columns = (TextColumn("letters"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console, keys = Console(stderr=True), operator_keys()

    async def run(settings: DlqSettings, name: str | None) -> list[LetterOutcome]:
        total = min(await _parked(settings, chosen, name), options.limit)
        with Progress(*columns, console=console, disable=total < LONG_RUN or not console.is_terminal) as bar:
            task = bar.add_task("", total=total)
            catalogue = load_catalogue(settings.event_types_file)
            return await deal(settings, catalogue, chosen, options, lambda more: bar.advance(task, more), keys)

    outcomes = _answer(run, sink)
    counts = dict(sorted(Counter(letter.outcome for letter in outcomes).items()))
    if as_json:
        _print_json({"dry_run": options.dry_run, "actor": options.actor, "counts": counts, "letters": outcomes})
    else:
        _report(outcomes, counts, dry_run=options.dry_run)


def _report(outcomes: list[LetterOutcome], counts: dict[Any, int], *, dry_run: bool) -> None:
    for letter in outcomes[:SHOWN]:
        reason = f": {letter.reason}" if letter.reason else ""
        click.echo(f"{letter.topic} {letter.partition} {letter.offset}  {letter.outcome}{reason}")
    if len(outcomes) > SHOWN:
        click.echo(f".. and {len(outcomes) - SHOWN:,} more (--json lists all)")
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or "nothing to do"
    click.echo(f"{'Dry run, nothing is changed: ' if dry_run else ''}{len(outcomes):,} letters: {said}.")


def _print_json(document: Any) -> None:
    click.echo(encoded(document).decode())
