"""Deletes what is older than a tenant keeps it: events, sessions and hours of users, dead letters that are settled.

Counts by hour and product stay unless they have a line, and the counts of each user stay. Each transaction deletes a
bounded number of rows, in every generation. A rebuild replays the whole log; before it is compared or promoted, it
forgets the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from operations.audit.deed import audited, by_url
from operations.settings import PrivacySettings
from projector.privacy.letters import EMPTIED, TENANT_ONLY
from projector.privacy.retention import forget_as_it_was, forget_old
from read_model.connecting.pool import Connection, connect
from read_model.generations.register import list_generations
from read_model.generations.schema import tables_of
from read_model.tables.dead_letters import TENANT_OF_KEY

CHUNK = 5_000  # rows at most in one transaction
EVENTS, COUNTS, DEAD_LETTERS = "events", "counts", "dead_letters"

LINES = "SELECT tenant_id, what, event_type, days FROM ops.retention ORDER BY tenant_id, what, event_type"
SET = """
INSERT INTO ops.retention (tenant_id, what, event_type, days) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, what, event_type) DO UPDATE SET days = excluded.days, set_at = now()
"""
REMOVE = "DELETE FROM ops.retention WHERE tenant_id = $1 AND what = $2 AND event_type = $3 RETURNING days"

# Of a discarded letter its place is kept: a rebuild skips the record. `set` and `run` need the database's owner.
DELETE_LETTERS = f"""
WITH old AS (
    SELECT ctid FROM {{generation}}.dead_letters
    WHERE state = 'redriven' AND resolved_at < $2 AND {TENANT_OF_KEY} = $1 LIMIT $3
), gone AS (
    DELETE FROM {{generation}}.dead_letters AS letter USING old WHERE letter.ctid = old.ctid RETURNING 1
)
SELECT count(*) AS count FROM gone
"""  # noqa: S608 - constants
EMPTY_LETTERS = f"""
WITH emptied AS (
    UPDATE {{generation}}.dead_letters
    SET {EMPTIED}
    WHERE state = 'discarded' AND resolved_at < $2 AND {TENANT_OF_KEY} = $1
      AND (record_value IS NOT NULL OR record_key IS DISTINCT FROM {TENANT_ONLY})
    RETURNING 1
)
SELECT count(*) AS count FROM emptied
"""  # noqa: S608 - constants
STILL_PARKED = f"""
SELECT count(*) FROM {{generation}}.dead_letters
WHERE state = 'parked' AND parked_at < $2 AND {TENANT_OF_KEY} = $1
"""  # noqa: S608 - constants


class Line(msgspec.Struct, frozen=True):
    """What a tenant keeps for how long.

    `event_type` empty: every type without a line of its own. `tenant_id` empty: every tenant without a line of its own,
    as projectors declare it (RETENTION_DAYS).
    """

    tenant_id: str
    what: str
    event_type: str
    days: int


class Forgotten(msgspec.Struct):
    """How many rows were deleted, by table; and old letters that are parked still, which nobody deletes."""

    rows: dict[str, int] = msgspec.field(default_factory=dict)
    still_parked: int = 0

    def add(self, table: str, count: int) -> None:
        """Counts rows."""
        self.rows[table] = self.rows.get(table, 0) + count


async def lines(connection: Connection) -> list[Line]:
    """Returns what is kept for how long."""
    return [Line(*row) for row in await connection.fetch(LINES)]


async def list_lines(settings: PrivacySettings) -> list[Line]:
    """Returns what is kept for how long."""
    connection = await connect(settings.database_url.get_secret_value(), "footfall-privacy")
    try:
        return await lines(connection)
    finally:
        await connection.close()


async def set_line(settings: PrivacySettings, line: Line, actor: str) -> None:
    """Sets for how long something is kept; nothing is deleted yet."""
    await _changed(settings, actor, line, f"{line.days} days", SET, line.days)


async def remove_line(settings: PrivacySettings, line: Line, actor: str) -> bool:
    """Keeps it for ever again. Returns False if there was no such line."""
    return await _changed(settings, actor, line, "for ever", REMOVE) is not None


async def _changed(
    settings: PrivacySettings, actor: str, line: Line, told: str, statement: str, *more: object
) -> object:
    url = settings.database_url.get_secret_value()
    target = f"{line.what} {line.event_type or 'of every other type'}: {told}"
    async with audited(by_url(url), "privacy retention", actor=actor, target=target, tenant_id=line.tenant_id):
        connection = await connect(url, "footfall-privacy")
        try:
            return await connection.fetchval(statement, line.tenant_id, line.what, line.event_type, *more)
        finally:
            await connection.close()


async def run(settings: PrivacySettings, actor: str) -> dict[str, Forgotten]:
    """Deletes what is too old, in every generation. Returns what, by generation."""
    url = settings.database_url.get_secret_value()
    async with audited(by_url(url), "privacy retention run", actor=actor) as deed:
        connection = await connect(url, "footfall-privacy")
        try:
            there = [each for each in await list_generations(connection) if each.state != "dropping"]
            names = [each.name for each in there]
            found = await _and_letters(connection, names, await forget_as_it_was(connection, there))
            await refresh_statistics(connection, names)
        finally:
            await connection.close()
        deed.target = f"{sum(sum(each.rows.values()) for each in found.values())} rows"
    return found


async def refresh_statistics(connection: Connection, generations: Sequence[str]) -> None:
    """Makes PostgreSQL's statistics anew: they quote values of rows that were deleted, also of erased users.

    A table that somebody vacuums or changes at the moment is left to the next run: this waits for nobody.
    """
    for generation in generations:
        for table in await tables_of(connection, generation):
            await connection.execute(f"ANALYZE (SKIP_LOCKED) {generation}.{table}")


async def forget(connection: Connection, generations: Sequence[str]) -> dict[str, Forgotten]:
    """Deletes what is too old now from generations, up to the same moments in each."""
    return await _and_letters(connection, generations, await forget_old(connection, generations))


async def _and_letters(
    connection: Connection, generations: Sequence[str], rows: Mapping[str, Mapping[str, int]]
) -> dict[str, Forgotten]:
    now = datetime.now(UTC)
    found = {name: Forgotten(dict(rows.get(name, {}))) for name in generations}
    of_letters = [line for line in await lines(connection) if line.what == DEAD_LETTERS]
    for name in generations:
        await _forget_letters(connection, name, of_letters, now, found[name])
    return found


async def _forget_letters(
    connection: Connection, generation: str, of_letters: Iterable[Line], now: datetime, found: Forgotten
) -> None:
    for line in of_letters:
        of_tenant = (line.tenant_id, now - timedelta(days=line.days))
        count = await _in_chunks(connection, DELETE_LETTERS.format(generation=generation), *of_tenant)
        count += await connection.fetchval(EMPTY_LETTERS.format(generation=generation), *of_tenant)
        found.add("dead_letters", count)
        found.still_parked += await connection.fetchval(STILL_PARKED.format(generation=generation), *of_tenant)


async def _in_chunks(connection: Connection, statement: str, tenant_id: str, until: datetime) -> int:
    total, count = 0, CHUNK
    while count == CHUNK:
        count = await connection.fetchval(statement, tenant_id, until, CHUNK)
        total += count
    return total
