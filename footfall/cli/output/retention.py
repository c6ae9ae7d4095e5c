"""Runs and prints what `footfall privacy retention` does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import rich_click as click

from contracts.types import is_type_name
from footfall.cli.failures import fail, readable_failures
from footfall.cli.settings import operator_settings
from operations.audit.deed import actor_name
from operations.privacy import retention
from operations.privacy.retention import COUNTS, DEAD_LETTERS, EVENTS, Line
from operations.settings import PrivacySettings
from read_model.audit import AuditUnavailableError
from read_model.wire_time import encoded

Found = TypeVar("Found")


def set_line(tenant: str, event_type: str, days: int, actor: str | None, *, dead_letters: bool, counts: bool) -> None:
    """Sets for how many days something is kept."""
    line = _line(tenant, event_type, days, dead_letters=dead_letters, counts=counts)
    _answer(lambda settings: retention.set_line(settings, line, actor or actor_name()))
    click.echo(
        f"{_named(line)} of tenant {tenant}: {days:,} days. To delete what is older: footfall privacy retention run"
    )


def remove_line(tenant: str, event_type: str, actor: str | None, *, dead_letters: bool, counts: bool) -> None:
    """Keeps it for ever again. Exits 1 if there was no such line."""
    line = _line(tenant, event_type, 0, dead_letters=dead_letters, counts=counts)
    if not _answer(lambda settings: retention.remove_line(settings, line, actor or actor_name())):
        fail(f"tenant {tenant} has no such line")
    click.echo(f"{_named(line)} of tenant {tenant}: for ever.")


def print_lines(*, as_json: bool) -> None:
    """Prints what is kept for how long."""
    found = _answer(retention.list_lines)
    if as_json:
        click.echo(encoded(found).decode())
        return
    for line in found:
        whose = line.tenant_id or "of every tenant without a line"
        click.echo(f"{whose}: {_named(line)}: {line.days:,} days{'' if line.tenant_id else ' (RETENTION_DAYS)'}")
    if not found:
        click.echo("Everything is kept for ever.")


def run(actor: str | None, *, as_json: bool) -> None:
    """Deletes what is too old, and prints how much that was."""
    found = _answer(lambda settings: retention.run(settings, actor or actor_name()))
    if as_json:
        click.echo(encoded(found).decode())
        return
    for generation, forgotten in found.items():
        told = ", ".join(f"{count:,} of {table}" for table, count in forgotten.rows.items() if count) or "nothing"
        click.echo(f"{generation}: {told}")
        if forgotten.still_parked:
            click.echo(
                f"  {forgotten.still_parked:,} older letters are parked: redrive or discard them with footfall dlq"
            )


def _line(tenant: str, event_type: str, days: int, *, dead_letters: bool, counts: bool) -> Line:
    if bool(event_type) + dead_letters + counts > 1:
        raise click.UsageError("Dead letters and counts have no type: give one of --type, --dead-letters, --counts.")
    if event_type and not is_type_name(event_type):
        raise click.UsageError(f"{event_type!r} is no name of an event type.")
    return Line(tenant, DEAD_LETTERS if dead_letters else COUNTS if counts else EVENTS, event_type, days)


def _named(line: Line) -> str:
    if line.what == DEAD_LETTERS:
        return "settled dead letters"
    if line.what == COUNTS:
        return "counts by hour"
    return f"events of type {line.event_type}" if line.event_type else "events of every other type"


def _answer(ask: Callable[[PrivacySettings], Coroutine[Any, Any, Found]]) -> Found:
    settings = operator_settings(PrivacySettings, "owner")
    with readable_failures("Nothing was changed", refusals=(AuditUnavailableError,)):
        return asyncio.run(ask(settings))
