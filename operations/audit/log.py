"""Lists the audit log, and verifies it against its anchors: the work behind `footfall audit`."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from contracts.audit_records import AuditAnchor
from operations.audit.anchors import read_anchors
from operations.audit.chain import AuditRow, ChainCheck, Finding
from operations.settings import AuditSettings
from read_model.audit import digest_of
from read_model.connecting.pool import connect

PREFETCH = 1_000  # rows at a time

LIST = """
SELECT number, at, role, actor, tenant_id, action, target, subject, outcome, request_id, entry_id, previous, hash
FROM ops.audit
WHERE ($1::timestamptz IS NULL OR at >= $1) AND ($2::timestamptz IS NULL OR at < $2)
  AND ($3::text IS NULL OR actor = $3) AND ($4::text IS NULL OR starts_with(action, $4))
  AND ($5::text IS NULL OR outcome = $5) AND ($6::text IS NULL OR tenant_id = $6)
  AND ($7::bytea IS NULL OR subject = ops.audit_subject($7))
ORDER BY number DESC LIMIT $8
"""
ALL = """
SELECT number, at, role, actor, tenant_id, action, target, subject, outcome, request_id, entry_id, previous, hash
FROM ops.audit ORDER BY number
"""


REACHED = "SELECT FROM ops.audit LIMIT 1"  # before Kafka is asked, which takes longer
MISSING = "cut off"  # what a replica that is behind looks like
IS_REPLICA = "SELECT pg_is_in_recovery()"
BEHIND = (
    "DATABASE_URL names a replica, which lacks rows that Kafka has an anchor of: it is behind, or they are gone. Ask"
    " the primary."
)


class ReplicaBehindError(Exception):
    """Rows are missing, and the database is a replica: nobody knows yet whether they are gone."""


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows to list; None: all. `user_id`: rows about this user of `tenant_id`."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    tenant_id: str | None = None
    user_id: str | None = None


class Verification(msgspec.Struct, frozen=True, rename="camel"):
    """What `verify` found. `confirmed`: the last row that an anchor in Kafka confirms; 0: none."""

    log: str
    rows: int
    anchors: int
    confirmed: int
    unreadable: int  # records of the audit topic that are neither anchor nor note
    deleted: int  # records that are gone from the beginning of the topic
    findings: list[Finding]


async def list_entries(settings: AuditSettings, chosen: AuditFilter, limit: int) -> list[AuditRow]:
    """Returns the newest matching rows, the newest first."""
    connection = await _connect(settings)
    try:
        return [row_of(record) for record in await connection.fetch(LIST, *_arguments(chosen), limit)]
    finally:
        await connection.close()


async def verify(settings: AuditSettings, given_up: Sequence[str] = ()) -> Verification:
    """Compares every row with the one before, and with the anchors in Kafka.

    Args:
        settings: Names the database and the audit topic.
        given_up: Logs of databases that were given up on purpose; their anchors are no finding.

    Raises:
        KafkaError, OSError, asyncpg.PostgresError: A server cannot be reached.
        ReplicaBehindError: The database is a replica that lacks rows.
    """
    connection = await _connect(settings)
    try:
        await connection.execute(REACHED)
        found = await read_anchors(settings)
        anchors = [anchor for anchor in found.anchors if not anchor.log.startswith(tuple(given_up) or ("-",))]
        check = await _checked(connection, anchors)
    finally:
        await connection.close()
    told = len(anchors), check.confirmed, found.unreadable, found.deleted
    return Verification(check.log, check.rows, *told, check.findings)


async def _checked(connection: asyncpg.Connection, anchors: Sequence[AuditAnchor]) -> ChainCheck:
    """Reads the rows after the anchors: every anchor is of a row that was there before."""
    check = ChainCheck(anchors)
    async with connection.transaction(readonly=True):
        async for row in _rows(connection):
            check.add(row)
    found = check.end(datetime.now(UTC))
    if any(one.kind == MISSING for one in found) and await connection.fetchval(IS_REPLICA):
        raise ReplicaBehindError(BEHIND)
    return check


async def _rows(connection: asyncpg.Connection) -> AsyncIterator[AuditRow]:
    async for record in connection.cursor(ALL, prefetch=PREFETCH):
        yield row_of(record)


def row_of(record: Any) -> AuditRow:
    """Converts a row of the table."""
    return AuditRow(*(record[name] for name in AuditRow.__struct_fields__))


def _arguments(chosen: AuditFilter) -> tuple[Any, ...]:
    digest = None if chosen.user_id is None else digest_of(chosen.tenant_id or "", chosen.user_id)
    return (
        *(chosen.since, chosen.until, chosen.actor, chosen.action, chosen.outcome),
        *(chosen.tenant_id, digest),
    )


async def _connect(settings: AuditSettings) -> asyncpg.Connection:
    return await connect(settings.database_url.get_secret_value(), "footfall-audit")
