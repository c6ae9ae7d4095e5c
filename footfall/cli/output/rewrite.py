"""Runs and prints what `footfall privacy rewrite` does."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import rich_click as click

from footfall.cli.failures import readable_failures
from footfall.cli.settings import operator_settings
from footfall.processes.environment import load_catalogue
from operations.audit.deed import actor_name
from operations.refusal import RefusedError
from operations.rewrite import steps, switching
from operations.rewrite.comparing import DifferentError
from operations.rewrite.work import Work, working
from operations.settings import RewriteSettings
from projector import failpoints
from read_model.audit import AuditUnavailableError
from read_model.wire_time import encoded

Found = TypeVar("Found")

REFUSALS = (RefusedError, DifferentError, AuditUnavailableError, switching.StillClosedError)
PROGRESS_EVERY = 1.0  # seconds
BECAME = {
    "same": "are copied as they are",
    "event": "events become stubs without a name",
    "marker": "markers of erasures name stubs",
    "unreadable": "records that are no events become empty ones",
    "key": "records of others lose the key of an erased user",
    "letter": "dead letters lose their bytes",
    "blank": "become blanks",
}


def plan(actor: str | None, *, as_json: bool) -> None:
    """Prints what a rewrite would do."""
    found = _run(actor, steps.plan)
    if as_json:
        _print_json(found)
        return
    click.echo(f"{found.topic} has {found.markers:,} markers of {found.users:,} erased users.")
    for topic, partitions in found.replaced.items():
        click.echo(f"\n{topic}: {found.records[topic]:,} records")
        _print_kinds(_summed(partitions))


def copy(actor: str | None, *, keeps_counts: bool, as_json: bool) -> None:
    """Copies, and prints how far the new topics are."""
    found = _run(actor, lambda work: steps.copy(work, keeps_counts=keeps_counts))
    if as_json:
        _print_json(found)
        return
    click.echo(f"{found.new_topic} has {sum(found.offsets[found.topic].values()):,} offsets of {found.topic}.")
    click.echo("Next: footfall privacy rewrite verify, and switch.")


def verify(actor: str | None, *, as_json: bool) -> None:
    """Compares, and prints what was replaced."""
    found = _run(actor, steps.verify)
    if as_json:
        _print_json(found)
        return
    for topic in dict.fromkeys(one.topic for one in found.partitions):
        mine = [one for one in found.partitions if one.topic == topic]
        click.echo(f"{topic}: {sum(one.end for one in mine):,} offsets")
        _print_kinds(_summed({one.partition: one.kinds for one in mine}))
        click.echo(f"  {sum(one.gaps for one in mine):>12,}  offsets without a record are blanks")
    click.echo("Every record is what it must be: none is missing, and none is added.")


def switch(actor: str | None, wait: float, *, ask: bool, as_json: bool) -> None:
    """Switches, and prints what to do next."""
    if ask:
        told = "Close the topics for every producer until they have the new names?"
        click.confirm(told, abort=True, err=True)
    found = _run(actor, lambda work: switching.switch(work, wait))
    if as_json:
        _print_json(found)
        return
    click.echo(f"{found.new_topic} is the log. {found.topic} takes no record any more.")
    click.echo(f"\nNow start every process with KAFKA_TOPIC={found.new_topic}")
    if found.dead_letters:
        click.echo(f"                     and KAFKA_DLQ_TOPIC={found.new_dead_letters}")
    click.echo("Then: footfall privacy rewrite finish")


def finish(actor: str | None, *, ask: bool) -> None:
    """Deletes the old topics."""
    if ask:
        click.confirm("Delete the old topics for ever?", abort=True, err=True)
    found = _run(actor, steps.finish)
    click.echo(f"{' and '.join(source for source, _ in found.pairs)} deleted.")
    click.echo(f"Archives of {found.topic} (footfall archive) still have the bytes. Archive {found.new_topic} into")
    click.echo("another place, and delete them. See docs/archive.md.")


def abandon(actor: str | None, *, ask: bool, force: bool) -> None:
    """Gives the rewrite up."""
    if ask:
        click.confirm("Delete the new topics?", abort=True, err=True)
    found = _run(actor, lambda work: steps.abandon(work, force=force))
    click.echo(f"{' and '.join(target for _, target in found.pairs)} deleted; {found.topic} takes events.")


def _run(actor: str | None, step: Callable[[Work], Awaitable[Found]]) -> Found:
    settings = operator_settings(RewriteSettings, "owner")
    failpoints.arm(os.environ)
    catalogue = load_catalogue(settings.event_types_file)

    async def run() -> Found:
        async with working(settings, catalogue, actor or actor_name(), Progress()) as work:
            return await step(work)

    with readable_failures("Not done", refusals=REFUSALS):
        return asyncio.run(run())


class Progress:
    """Prints progress on a terminal, once a second."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Prints it, if it is time."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told_at > PROGRESS_EVERY:
            self._told_at = now
            click.echo(f"{done:,} of {total:,} {what}", err=True)


def _summed(partitions: Mapping[int, Mapping[Any, int]]) -> Counter[str]:
    return sum((Counter(kinds) for kinds in partitions.values()), Counter[str]())


def _print_kinds(kinds: Counter[str]) -> None:
    for kind, told in BECAME.items():
        if kinds[kind]:
            click.echo(f"  {kinds[kind]:>12,}  {told}")


def _print_json(found: Any) -> None:
    click.echo(encoded({name: getattr(found, name) for name in found.__struct_fields__}).decode())
