"""Writes what an operator does into the audit log, before and after it is done.

    async with audited(write, "rebuild promote", actor=.., refusals=(RefusedError,)) as deed:
        ..
        deed.target = "read_g1 to read_g2"

The first entry, `begun`, is written before the body runs: if it cannot be written, the body does not run.
"""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg
import msgspec
from aiokafka.errors import KafkaError

from brokers.audit_notes import ensure_audit_topic, send_notes
from contracts.audit_records import AuditNote, new_entry_id
from read_model.audit import AuditEntry, AuditUnavailableError, Outcome, write_entry
from read_model.connecting.pool import Connection, connect

WRITE_TIMEOUT = 15.0  # seconds; the writer before us may hold the log's lock for 5
ERRORS = (OSError, TimeoutError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError)

Write = Callable[[AuditEntry], Awaitable[object]]


class Deed:
    """What is being done. `target`: what it is done to, once that is known; no personal data.

    `request_id`: the same in all rows of the deed.
    """

    def __init__(self, target: str, request_id: str = "") -> None:
        self.target = target
        self.request_id = request_id
        self.outcome: Outcome = "done"


@asynccontextmanager
async def audited(
    write: Write,
    action: str,
    *,
    actor: str = "",
    target: str = "",
    tenant_id: str = "",
    user_id: str | None = None,
    refusals: Sequence[type[Exception]] = (),
) -> AsyncIterator[Deed]:
    """Writes `begun` before the body, and `done`, `refused` or `failed` after it.

    Args:
        write: Appends an entry: `by_connection(connection)`, or `by_kafka(..)`.
        action: The command, such as `rebuild promote`.
        actor: Who does it; empty: `actor_name()`.
        target: What it is done to; the body may say it later, by `deed.target`.
        tenant_id: Whose data it is; empty: of every tenant.
        user_id: The user it is about; only a pseudonym is stored.
        refusals: Errors of the body that mean that nothing was done.

    Raises:
        AuditUnavailableError: The log cannot be written, so nothing was done.
    """
    entry = AuditEntry(
        actor=actor or actor_name(),
        action=action,
        outcome="begun",
        tenant_id=tenant_id,
        target=target,
        user_id=user_id,
        request_id=str(new_entry_id()),
    )
    await _written(write, entry)
    deed = Deed(target, entry.request_id)
    try:
        yield deed
    except BaseException as error:
        await _ended(write, entry, deed, "refused" if isinstance(error, tuple(refusals)) else "failed")
        raise
    await _ended(write, entry, deed, deed.outcome)


def by_connection(connection: Connection | asyncpg.Pool) -> Write:
    """Returns the `write` of `audited` that uses a connection on which no transaction is open."""
    return partial(write_entry, connection)


def by_url(database_url: str) -> Write:
    """Returns the `write` of `audited` that opens a connection for each entry."""

    async def write(entry: AuditEntry) -> None:
        connection = await connect(database_url, "footfall-audit", settings={"default_transaction_read_only": "off"})
        try:
            await write_entry(connection, entry)
        finally:
            await connection.close()

    return write


def by_kafka(options: Mapping[str, Any], topic: str, replication_factor: int = 1) -> Write:
    """Returns the `write` of `audited` that sends a note by Kafka, for commands that have no database.

    A note names no user. It is in the log once a projector has read it. The topic is made if it is missing.
    """

    async def write(entry: AuditEntry) -> None:
        note = AuditNote(
            new_entry_id(), entry.actor, entry.action, entry.outcome, entry.tenant_id, entry.target, entry.request_id
        )
        await ensure_audit_topic(options, topic, replication_factor)
        await send_notes(options, topic, note)

    return write


def actor_name(user: str = "") -> str:
    """Returns who runs this command: FOOTFALL_ACTOR, or user@host. `user`: instead of the user of this terminal."""
    given = os.environ.get("FOOTFALL_ACTOR", "")
    if given:
        return given
    try:
        user = user or getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


async def _written(write: Write, entry: AuditEntry) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await write(entry)
    except ERRORS as error:
        raise AuditUnavailableError(
            f"The audit log cannot be written ({type(error).__name__}: {_first_line(error)}), so nothing was done."
        ) from error


async def _ended(write: Write, begun: AuditEntry, deed: Deed, outcome: Outcome) -> None:
    """Writes how it ended. If that fails, the log tells of a deed without an end, which is what is known of it."""
    entry = msgspec.structs.replace(begun, outcome=outcome, target=deed.target)
    with suppress(AuditUnavailableError):
        await _written(write, entry)


def _first_line(error: Any) -> str:
    return (str(error).splitlines() or [""])[0] or "no answer in time"
