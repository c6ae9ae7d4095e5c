"""Everything that is kept about one user, as of one moment, as documents with a `kind` (GDPR Art. 15 and 20)."""

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from operations.audit.deed import audited, by_url
from operations.privacy.sealed_letters import LetterReader, letter_reader
from operations.settings import PrivacySettings
from projector.dead_letters.parking import header_name
from projector.privacy.letters import letters_of
from projector.sealed.keys import Keys
from read_model.connecting.pool import Connection, connect
from read_model.generations.register import positions, write_journal
from read_model.pseudonyms import pseudonym, pseudonym_key

Document = dict[str, Any]

ACTIVE = "SELECT name FROM ops.generations WHERE state = 'active'"
EVENTS = """
SELECT kafka_topic, kafka_partition, kafka_offset, recorded_at, projected_at, event_json FROM read.processed_events
WHERE tenant_id = $1 AND user_id = $2 ORDER BY occurred_at, event_id
"""
AT_ONCE = 500  # events that are read from the server at a time
# The rows of one user in each of these, under the name of their kind.
ROWS: Mapping[str, str] = {
    "activity": "SELECT * FROM read.user_activity WHERE tenant_id = $1 AND user_id = $2",
    "activityOfType": """
SELECT event_type, meaning, sum(events)::bigint AS events FROM {generation}.user_activity_types
WHERE tenant_id = $1 AND user_id = $2 GROUP BY event_type, meaning ORDER BY event_type, meaning""",
    "session": "SELECT * FROM read.user_sessions WHERE tenant_id = $1 AND user_id = $2 ORDER BY started_at, session_id",
    "hour": """
SELECT hour, types, kafka_partition FROM {generation}.activity_hourly_users
WHERE tenant_id = $1 AND user_id = $2 ORDER BY hour, kafka_partition""",
    "hourOfType": """
SELECT hour, event_type, kafka_partition FROM {generation}.activity_hourly_type_users
WHERE tenant_id = $1 AND user_id = $2 ORDER BY hour, event_type, kafka_partition""",
    "hourOfProducts": """
SELECT hour, products, kafka_partition FROM {generation}.product_views_users
WHERE tenant_id = $1 AND user_id = $2 ORDER BY hour, kafka_partition""",
}
ERASURES = """
SELECT DISTINCT ON (erasure_id) erasure_id, requested_at, applied_at FROM ops.erasures
WHERE tenant_id = $1 AND pseudonym = $2 ORDER BY erasure_id, applied_at
"""


async def export(
    settings: PrivacySettings, tenant_id: str, user_id: str, actor: str, keys: Keys | None = None
) -> AsyncIterator[Document]:
    """Yields the documents, the counts last. `actor`: for the journal, which holds the user's pseudonym.

    `keys`: of the sealed log; None: there is no key store. Raises KeysError if that cannot be used, and
    AuditUnavailableError if the audit log cannot be written.
    """
    user = (tenant_id, user_id)
    url = settings.database_url.get_secret_value()
    async with audited(by_url(url), "privacy export", actor=actor, tenant_id=tenant_id, user_id=user_id) as deed:
        connection = await connect(url, "footfall-privacy")
        try:
            key = pseudonym(await pseudonym_key(connection), tenant_id, user_id)
            await write_journal(connection, actor, "privacy export", {"pseudonym": key.hex()})
            counts: dict[str, int] = {}
            async with (
                connection.transaction(isolation="repeatable_read", readonly=True),
                letter_reader(keys, connection, user) as letters,
            ):
                async for document in _documents(connection, settings.kafka_topic, user, key, letters):
                    counts[document["kind"]] = counts.get(document["kind"], 0) + 1
                    yield document
            counts.pop("about")
            deed.target = f"{sum(counts.values())} documents"
            yield {"kind": "end", "counts": counts}
        finally:
            await connection.close()


async def _documents(
    connection: Connection, topic: str, user: tuple[str, str], key: bytes, letters: LetterReader
) -> AsyncIterator[Document]:
    generation: str = await connection.fetchval(ACTIVE)
    stands = await positions(connection, generation, topic)
    about = {"tenantId": user[0], "userId": user[1], "asOf": datetime.now(UTC)}
    yield {"kind": "about", **about, "logPositions": {str(partition): offset for partition, offset in stands.items()}}
    for kind, statement in ROWS.items():
        for row in await connection.fetch(statement.format(generation=generation), *user):
            yield {"kind": kind, **_named(row)}
    async for row in connection.cursor(EVENTS, *user, prefetch=AT_ONCE):
        document = _named(row)
        document["event"] = msgspec.Raw(document.pop("eventJson").encode())
        yield {"kind": "event", **document}
    async for row, _ in letters_of(connection, generation, letters.users):
        yield {"kind": "deadLetter", **_letter(row, await letters.value(row))}
    for row in await connection.fetch(ERASURES, user[0], key):
        yield {"kind": "erasure", **_named(row)}


def _named(row: asyncpg.Record) -> Document:
    """The columns of a row by the names that JSON has for them; without those that every document shares."""
    return {_camel(name): value for name, value in row.items() if name not in ("tenant_id", "user_id")}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _letter(row: asyncpg.Record, value: bytes | None) -> Document:
    found = _named(row)
    names, values = found.pop("headerNames"), found.pop("headerValues")
    found["headers"] = [[header_name(name), _text(value)] for name, value in zip(names, values, strict=True)]
    found["key"], found["value"] = _text(found.pop("recordKey")), _text(value)
    del found["recordValue"]
    return found


def _text(data: bytes | None) -> str | None:
    """Bytes as text; those that are no text in base64, and said so."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(data).decode()}"
