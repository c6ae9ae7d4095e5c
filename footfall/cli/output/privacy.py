"""Runs and prints what `footfall privacy` does."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import rich_click as click

from brokers.registry.errors import RegistryAwayError, RegistryRefusedError
from contracts.event import is_tenant_id
from contracts.validation.rules import is_user_id
from footfall.cli.failures import fail, readable_failures
from footfall.cli.sealed.key_store import operator_keys
from footfall.cli.settings import operator_settings
from operations.audit.deed import actor_name
from operations.privacy.erase import ErasureReport, UnknownErasureError
from operations.privacy.erase import erase as run_erase
from operations.privacy.export import Document
from operations.privacy.export import export as run_export
from operations.settings import PrivacySettings
from read_model.audit import AuditUnavailableError
from read_model.wire_time import encoded
from sealing.errors import KeysError

SHOWN = 2_000  # characters of one value in a report
REFUSALS = (AuditUnavailableError, UnknownErasureError, KeysError, RegistryAwayError, RegistryRefusedError)
HEADINGS = {
    "activity": "What you did, in numbers",
    "activityOfType": "How often, by type",
    "session": "Sessions",
    "hour": "Hours with activity (types: LOGIN 1, LOGOUT 2, PRODUCT_VIEW 4, added up)",
    "hourOfType": "Hours with activity of other types",
    "hourOfProducts": "Products viewed, by hour",
    "event": "Events",
    "deadLetter": "Records that could not be applied",
    "erasure": "Earlier erasures",
}


def erase(tenant: str, users: list[str], actor: str | None, wait: float, *, ask: bool, as_json: bool) -> None:
    """Erases users and prints the report. Exits 1 if a generation still holds them."""
    _check(tenant, users)
    settings = operator_settings(PrivacySettings, "projector")
    if ask:
        click.confirm(f"Erase {len(users):,} users of tenant {tenant} for ever?", abort=True, err=True)
    keys, whom = operator_keys(), [(tenant, user) for user in users]
    with readable_failures("Not erased", refusals=REFUSALS):
        report = asyncio.run(run_erase(settings, whom, actor or actor_name(), wait, keys))
    if as_json:
        told = {"done": report.done, **{name: getattr(report, name) for name in report.__struct_fields__}}
        told["erasures"] = [str(one.erasure_id) for one in report.erasures]
        click.echo(encoded(told).decode())
    else:
        _print_report(report)
    sys.exit(0 if report.done else 1)


def _check(tenant: str, users: Sequence[str]) -> None:
    if not is_tenant_id(tenant):
        raise click.UsageError("A tenant's id has 1 to 64 letters, digits, `.`, `_` or `-`.")
    if not all(map(is_user_id, users)):
        raise click.UsageError("A user id has 1 to 256 characters, none of them a control character.")


def _print_report(report: ErasureReport) -> None:
    for one in report.erasures[:1] if len(report.erasures) == 1 else ():
        click.echo(f"Erasure {one.erasure_id}")
    click.echo(f"{len(report.erasures):,} users with {report.events:,} events, in {report.seconds:.1f} s.")
    for behind in report.behind:
        click.echo(
            f"Generation {behind.generation} is {behind.state} and has not applied every marker yet: it holds rows."
        )
    if report.done:
        click.echo("No generation of the read model holds them any more.")
    click.echo("\nWhat is left:")
    for sentence in report.remains:
        click.echo(f"- {sentence}")


def export(tenant: str, user: str, form: str, output: Path | None, actor: str | None) -> None:
    """Writes everything about a user. Exits 1 if nothing is known."""
    _check(tenant, [user])
    settings = operator_settings(PrivacySettings, "projector")
    write, keys = ndjson if form == "ndjson" else Report(), operator_keys()

    async def run(file: BinaryIO) -> dict[str, int]:
        documents: AsyncIterator[Document] = run_export(settings, tenant, user, actor or actor_name(), keys)
        counts: dict[str, int] = {}
        async for document in documents:
            file.write(write(document))
            counts = document.get("counts", counts)
        return counts

    with readable_failures("Not exported", refusals=(AuditUnavailableError, KeysError)), opened(output) as file:
        counts = asyncio.run(run(file))
    if not counts:
        fail(f"nothing is known about this user of tenant {tenant}")


@contextmanager
def opened(output: Path | None) -> Iterator[BinaryIO]:
    """A new file that nobody else may read, or standard output."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file


def ndjson(document: Document) -> bytes:
    """One line of JSON."""
    return encoded(document) + b"\n"


class Report:
    """The documents as text for the person, with a heading for each kind."""

    def __init__(self) -> None:
        self._kind = ""

    def __call__(self, document: Document) -> bytes:
        """The lines of one document."""
        kind = document.pop("kind")
        if kind == "about":
            return _about(document)
        if kind == "end":
            return _end(document["counts"])
        heading = "" if kind == self._kind else f"\n## {HEADINGS.get(kind, kind)}\n\n"
        self._kind = kind
        return f"{heading}{_event(document) if kind == 'event' else _fields(document)}\n".encode()


def _about(document: Document) -> bytes:
    return (
        f"# What is kept about user {document['userId']} (tenant {document['tenantId']})\n\n"
        f"As of {document['asOf']:%Y-%m-%d %H:%M:%S} UTC. Times are UTC.\n"
    ).encode()


def _end(counts: dict[str, int]) -> bytes:
    told = ", ".join(f"{count:,} of kind {kind}" for kind, count in counts.items()) or "Nothing is kept"
    return f"\n{told}.\n".encode()


def _event(document: Document) -> str:
    event: dict[str, Any] = msgspec.json.decode(bytes(document["event"]))
    payload = msgspec.json.encode(event["payload"]).decode()
    return f"- {event['timestamp']}  {event['eventType']}  {payload}"


def _fields(document: Document) -> str:
    return "- " + "; ".join(f"{name}: {value}"[:SHOWN] for name, value in document.items() if value is not None)
