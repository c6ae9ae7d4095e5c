"""Prints what `footfall audit` finds, as tables or JSON."""

import asyncio
from typing import Any

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from contracts.event import DEFAULT_TENANT
from footfall.cli.failures import fail, readable_failures
from footfall.cli.settings import operator_settings
from operations.audit.chain import AuditRow
from operations.audit.log import AuditFilter, ReplicaBehindError, Verification, list_entries, verify
from operations.settings import AuditSettings

GONE = "its retention is not -1, or somebody deleted them, and their anchors confirm nothing."
UNKNOWN = 2  # exit code
COLUMNS = ("number", "at (UTC)", "actor", "role", "tenant", "action", "target", "user", "outcome", "request")


def print_entries(chosen: AuditFilter, limit: int, *, as_json: bool) -> None:
    """Prints the newest matching rows. A user without a tenant is one of the default tenant."""
    if chosen.user_id is not None and chosen.tenant_id is None:
        chosen = msgspec.structs.replace(chosen, tenant_id=DEFAULT_TENANT)
    settings = operator_settings(AuditSettings, "owner")
    with readable_failures("The audit log cannot be read"):
        rows = asyncio.run(list_entries(settings, chosen, limit))
    if as_json:
        click.echo(msgspec.json.encode([_document(row) for row in rows]))
        return
    table = Table(*COLUMNS)
    for row in rows:
        subject = "" if row.subject is None else row.subject.hex()[:12]
        texts = (row.actor, row.role, row.tenant_id, row.action, row.target, subject, row.outcome, row.request_id[-12:])
        table.add_row(str(row.number), f"{row.at:%Y-%m-%d %H:%M:%S}", *map(escape, texts))
    Console().print(table)


def print_verification(given_up: tuple[str, ...], *, as_json: bool) -> int:
    """Verifies the log, prints what was found, and returns the exit code."""
    try:
        found = asyncio.run(verify(operator_settings(AuditSettings, "owner"), given_up))
    except ReplicaBehindError as error:
        fail(str(error), UNKNOWN)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _print_findings(found)
    return 1 if found.findings else 0


def _print_findings(found: Verification) -> None:
    for finding in found.findings:
        click.echo(f"{finding.kind}: {finding.text}")
    said = (
        f"log {found.log[:16]}: {found.rows:,} rows, {found.anchors:,} anchors, confirmed up to row {found.confirmed:,}"
    )
    click.echo(f"{said}. {'NOT as it was written.' if found.findings else 'As it was written.'}")
    if found.unreadable:
        click.echo(f"{found.unreadable:,} records of the audit topic are neither anchors nor notes.", err=True)
    if found.deleted:
        click.echo(f"{found.deleted:,} records are gone from the beginning of the audit topic: {GONE}", err=True)


def _document(row: AuditRow) -> dict[str, Any]:
    document = {name: getattr(row, name) for name in row.__struct_fields__}
    return document | {name: document[name] and document[name].hex() for name in ("subject", "previous", "hash")}
