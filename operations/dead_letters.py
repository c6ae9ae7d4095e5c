"""Lists, shows, redrives and discards dead letters: the work behind `footfall dlq`.

They are those of the active generation, or of the sink whose schema is named.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import asyncpg
import msgspec

from contracts.event import DEFAULT_TENANT
from contracts.types import Catalogue
from operations.audit.deed import Deed, actor_name, audited, by_connection
from operations.settings import DlqSettings
from projector.dead_letters.letter_filter import MATCHES, LetterFilter
from projector.dead_letters.parking import header_name
from projector.dead_letters.redrive import LetterOutcome, Options, Redrive, active_generation
from projector.dead_letters.redrive_attempt import RedriveError
from projector.projections.projection import PLAN_SETTINGS
from projector.sealed.keys import Keys, opening
from projector.sealed.opener import Unsealed
from projector.writing.commit import GenerationWriter
from read_model.audit import AuditEntry, write_entry
from read_model.connecting.pool import Connection, connect
from read_model.tables.dead_letters import TENANT_OF_KEY

# The list leaves the record's key and value out: they are personal data.
LIST = f"""
SELECT kafka_topic, kafka_partition, kafka_offset, state, cause, user_id, error_class, error_message, behind_offset,
       attempts, recorded_at, parked_at, published_at, resolved_at, resolved_by, {TENANT_OF_KEY} AS tenant_id
FROM {{generation}}.dead_letters WHERE {MATCHES}
ORDER BY kafka_topic, kafka_partition, kafka_offset LIMIT $12
"""  # noqa: S608 - the generation's name comes from the register, which checks it

COUNT = f"SELECT count(*) FROM {{generation}}.dead_letters WHERE {MATCHES}"  # noqa: S608 - as above

# What any role may see: without user, key and bytes.
OF_VIEW = MATCHES.replace(TENANT_OF_KEY, "tenant_id").replace("user_id = $1", "false")
PAGE = f"""
SELECT kafka_topic, kafka_partition, kafka_offset, state, cause, error_class, error_message, behind_offset, attempts,
       recorded_at, parked_at, resolved_at, resolved_by, tenant_id, event_id
FROM read.dead_letters
WHERE {OF_VIEW} AND (kafka_topic, kafka_partition, kafka_offset) > ($12::text, $13::int, $14::bigint)
ORDER BY kafka_topic, kafka_partition, kafka_offset LIMIT $15
"""  # noqa: S608 - composed of constants
CAUSES = f"""
SELECT cause, error_class, count(*) AS letters, min(parked_at) AS oldest, count(DISTINCT kafka_partition) AS partitions
FROM read.dead_letters WHERE {OF_VIEW}
GROUP BY cause, error_class ORDER BY cause = 'behind', letters DESC, error_class LIMIT 50
"""  # noqa: S608 - composed of constants
WAITING = f"""
SELECT kafka_topic, kafka_partition, behind_offset, count(*) AS letters, min(parked_at) AS oldest,
       max(kafka_offset) AS last
FROM read.dead_letters WHERE {OF_VIEW} AND behind_offset IS NOT NULL
GROUP BY kafka_topic, kafka_partition, behind_offset ORDER BY letters DESC, kafka_partition, behind_offset LIMIT 20
"""  # noqa: S608 - composed of constants
SINKS = "SELECT name FROM ops.sinks ORDER BY name"
FIRST = ("", -1, -1)  # before every letter

SHOW = f"""
SELECT *, {TENANT_OF_KEY} AS tenant_id
FROM {{generation}}.dead_letters WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset = $3
"""  # noqa: S608 - as above


@asynccontextmanager
async def _connected(settings: DlqSettings, sink: str | None) -> AsyncIterator[tuple[asyncpg.Connection, str]]:
    """Yields a connection and whose letters are meant: of the sink, or of the generation that is active now."""
    connection = await connect(settings.database_url.get_secret_value(), "footfall-dlq", settings=PLAN_SETTINGS)
    try:
        yield connection, await (active_generation(connection) if sink is None else _known(connection, sink))
    finally:
        await connection.close()


async def _known(connection: asyncpg.Connection, sink: str) -> str:
    names = [row["name"] for row in await connection.fetch(SINKS)]
    if sink not in names:
        raise RedriveError(f"There is no {sink} in this database. Its sinks: {', '.join(names) or 'none'}.")
    return sink


async def list_letters(
    settings: DlqSettings, chosen: LetterFilter, limit: int, sink: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Lists the letters that the filter matches.

    Args:
        settings: Names the database.
        chosen: The filter.
        limit: Rows at most.
        sink: The schema of a sink; None: the active generation.

    Returns:
        The rows in the order of topic, partition and offset, and how many letters match without the limit.

    Raises:
        RedriveError: There is no such sink.
    """
    async with _connected(settings, sink) as (connection, generation):
        rows = await connection.fetch(LIST.format(generation=generation), *chosen.arguments(), limit)
        count = await connection.fetchval(COUNT.format(generation=generation), *chosen.arguments())
    return [dict(row) for row in rows], count


async def page_letters(
    connection: Connection, chosen: LetterFilter, after: tuple[str, int, int], limit: int
) -> list[dict[str, Any]]:
    """Returns the letters after one place, without what is personal, in the order of topic, partition and offset.

    `chosen`: any filter but `user`, which is not to be seen here. `after`: `FIRST`, or the place of a letter.
    """
    return [dict(row) for row in await connection.fetch(PAGE, *chosen.arguments(), *after, limit)]


async def causes_of_letters(connection: Connection, chosen: LetterFilter) -> list[dict[str, Any]]:
    """Returns how many letters there are of each cause and error, and since when; those that only wait last."""
    return [dict(row) for row in await connection.fetch(CAUSES, *chosen.arguments())]


async def waiting_letters(connection: Connection, chosen: LetterFilter) -> list[dict[str, Any]]:
    """Returns the letters that most others wait behind, with how many those are."""
    return [dict(row) for row in await connection.fetch(WAITING, *chosen.arguments())]


async def show_letter(
    settings: DlqSettings,
    topic: str,
    partition: int,
    offset: int,
    *,
    raw: bool,
    actor: str = "",
    sink: str | None = None,
) -> dict[str, Any] | None:
    """Returns all columns of the letter at one log position, or None if there is none.

    The record's value is included only with `raw`: as text if it is UTF-8, otherwise as hexadecimal digits. The audit
    log has who opened it, before anything of it is returned. `actor`: who, if it is not this terminal's user.
    `sink`: as of `list_letters`.
    """
    async with _connected(settings, sink) as (connection, generation):
        row = await connection.fetchrow(SHOW.format(generation=generation), topic, partition, offset)
        if row is None:
            return None
        await write_entry(connection, _opened(row, actor, raw=raw))
    letter = dict(row)
    names, values = letter.pop("header_names"), letter.pop("header_values")
    letter["headers"] = [[header_name(name), _text(value)] for name, value in zip(names, values, strict=True)]
    key, value = letter.pop("record_key"), letter.pop("record_value")
    letter |= {"key": _text(key), "value_bytes": None if value is None else len(value)}
    return letter | {"value": _text(value)} if raw else letter


def _opened(row: Any, actor: str, *, raw: bool) -> AuditEntry:
    where = f"{row['kafka_topic']} {row['kafka_partition']} {row['kafka_offset']}"
    return AuditEntry(
        actor=actor_name(actor),
        action="dlq show",
        outcome="done",
        tenant_id=row["tenant_id"],
        target=f"{where}{' with its value' if raw else ''}",
        user_id=row["user_id"],
    )


async def redrive_letters(
    settings: DlqSettings,
    catalogue: Catalogue,
    chosen: LetterFilter,
    options: Options,
    progress: Callable[[int], None],
    keys: Keys | None = None,
) -> list[LetterOutcome]:
    """Applies the matching letters, and the letters parked behind them, to the active generation.

    Args:
        settings: Names the database.
        catalogue: The event types, by which letters are projected.
        chosen: Which letters to redrive.
        options: Limit, rate, dry run, and the operator's name for the journal.
        progress: Called with the number of letters done since the last call.
        keys: Of the sealed log; None: there is no key store.

    Returns:
        The outcome of each letter.

    Raises:
        KeysError: The key store cannot be used.
        RedriveError: The redrive is not possible; the text says why.
    """
    async with _connected(settings, None) as (connection, generation), opening(keys, catalogue) as opener:
        redrive = Redrive(connection, GenerationWriter(generation, catalogue), options, opener)
        async with _audited(connection, "dlq redrive", chosen, options) as deed:
            return _counted(deed, await redrive.redrive(chosen, progress))


async def redrive_of_sink(
    settings: DlqSettings,
    chosen: LetterFilter,
    options: Options,
    progress: Callable[[int], None],
    writer: GenerationWriter,
    opener: Unsealed,
) -> list[LetterOutcome]:
    """Writes the matching letters of a sink into its engine.

    Arguments, result and errors are those of `redrive_letters`, and these: `writer`, into the sink; `opener`, which
    makes of a sealed record what the sink has of it.
    """
    async with _connected(settings, writer.generation) as (connection, _):
        redrive = Redrive(connection, writer, options, opener)
        async with _audited(connection, f"dlq redrive {writer.generation}", chosen, options) as deed:
            return _counted(deed, await redrive.redrive(chosen, progress))


async def discard_letters(
    settings: DlqSettings,
    catalogue: Catalogue,
    chosen: LetterFilter,
    options: Options,
    progress: Callable[[int], None],
    _keys: Keys | None = None,
) -> list[LetterOutcome]:
    """Discards the matching letters of the active generation: their events will never be applied.

    Arguments, result and errors are those of `redrive_letters`.
    """
    return await _discard(settings, catalogue, chosen, options, progress, None)


async def discard_of_sink(
    settings: DlqSettings,
    catalogue: Catalogue,
    chosen: LetterFilter,
    options: Options,
    progress: Callable[[int], None],
    sink: str,
) -> list[LetterOutcome]:
    """Discards the matching letters of a sink, as `discard_letters`; `sink`: its schema."""
    return await _discard(settings, catalogue, chosen, options, progress, sink)


async def _discard(
    settings: DlqSettings,
    catalogue: Catalogue,
    chosen: LetterFilter,
    options: Options,
    progress: Callable[[int], None],
    sink: str | None,
) -> list[LetterOutcome]:
    async with _connected(settings, sink) as (connection, found):
        redrive = Redrive(connection, GenerationWriter(found, catalogue), options)
        action = "dlq discard" if sink is None else f"dlq discard {sink}"
        async with _audited(connection, action, chosen, options) as deed:
            return _counted(deed, await redrive.discard(chosen, progress))


def _audited(
    connection: asyncpg.Connection, action: str, chosen: LetterFilter, options: Options
) -> AbstractAsyncContextManager[Deed]:
    """A dry run, which changes nothing, is not written."""
    if options.dry_run:
        return nullcontext(Deed(""))
    return audited(
        by_connection(connection),
        action,
        actor=options.audited_as or actor_name(options.actor),
        tenant_id=chosen.tenant or DEFAULT_TENANT,
        target=_described(chosen),
        user_id=chosen.user,
    )


def _described(chosen: LetterFilter) -> str:
    """Says what was chosen, without texts in which an operator may have written personal data."""
    found: str = msgspec.json.encode(msgspec.structs.replace(chosen, user=None, error=None)).decode()
    return found


def _counted(deed: Deed, outcomes: list[LetterOutcome]) -> list[LetterOutcome]:
    counts = Counter(letter.outcome for letter in outcomes)
    deed.target = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no letter"
    return outcomes


def _text(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
