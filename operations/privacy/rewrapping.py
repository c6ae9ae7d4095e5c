"""Wraps every key of the key store by the newest tenant key, so that the lines of older ones can be taken away.

Nothing that was sealed changes, and nothing is unreadable for a moment: a row is unwrapped, wrapped anew and replaced,
unless somebody else has changed or destroyed it meanwhile.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from operations.audit.deed import audited, by_url
from operations.settings import PrivacySettings
from sealing.errors import KeysError
from sealing.sessions import Sessions
from sealing.tenant_keys import TenantKeys, Wrapped

AT_ONCE = 500  # rows of one transaction, which has five seconds
NOT_THE_OWNER = "KEY_STORE_URL must name the owner of the key store's database, as for `footfall privacy prepare`."


class _Table(msgspec.Struct, frozen=True):
    name: str
    column: str  # that tells two rows of a tenant apart
    type: str
    purpose: str  # what the keys in it are for, as they are bound to it

    def purpose_of(self, row: asyncpg.Record) -> str:
        """What the key of a row was wrapped for."""
        return self.purpose.format(row["name"])


TABLES = (
    _Table("tenants", "tenant_id", "text", "index"),
    _Table("months", "month", "text", "month {}"),
    _Table("other_months", "month", "text", "month {}"),
    _Table("subjects", "subject_id", "uuid", "subject {}"),
    _Table("erasures", "erasure_id", "uuid", "erasure {}"),
)
MAY = """
SELECT bool_and(has_column_privilege('key_store.' || place, name, 'UPDATE'))
FROM unnest($1::text[]) AS place, unnest(ARRAY['key_id', 'wrapped']) AS name
"""


async def rewrap(settings: PrivacySettings, url: str, keys: TenantKeys, actor: str) -> Mapping[str, int]:
    """Wraps what older tenant keys wrap by the newest one of each tenant.

    Args:
        settings: Name the database, for the audit log.
        url: Of the key store, of its owner.
        keys: The tenant keys; the last line of a tenant is the newest.
        actor: The operator.

    Returns:
        How many keys each older tenant key had wrapped, by `tenant/key id`.

    Raises:
        KeysError: The key store does not answer, refuses, or has a key that no line unwraps; what was wrapped stays so.
        AuditUnavailableError: The audit log cannot be written, so nothing was done.
    """
    write, sessions = by_url(settings.database_url.get_secret_value()), Sessions(url, "footfall-rewrap")
    async with audited(write, "privacy rewrap", actor=actor, refusals=(KeysError,)) as deed:
        await sessions.open()
        try:
            [row] = await sessions.fetch(MAY, [table.name for table in TABLES])
            if not row[0]:
                raise KeysError(NOT_THE_OWNER)
            done = Counter[str]()
            for table in TABLES:
                done += await _rewrap_table(sessions, keys, table)
        finally:
            await sessions.close()
        deed.target = f"{done.total()} keys of {', '.join(sorted(done)) or 'none'}"
    return done


async def _rewrap_table(sessions: Sessions, keys: TenantKeys, table: _Table) -> Counter[str]:
    done = Counter[str]()
    used = await sessions.fetch(
        f"SELECT DISTINCT tenant_id, key_id FROM key_store.{table.name} WHERE wrapped IS NOT NULL"  # noqa: S608
    )
    for tenant_id, key_id in used:
        if key_id == keys.newest(tenant_id):
            continue
        after = None
        while rows := await _rows(sessions, table, tenant_id, key_id, after):
            wrapped = [_anew(keys, tenant_id, table.purpose_of(row), row) for row in rows]
            done[f"{tenant_id}/{key_id}"] += await _replace(sessions, table, tenant_id, rows, wrapped)
            after = rows[-1]["name"]
    return done


async def _rows(
    sessions: Sessions, table: _Table, tenant_id: str, key_id: str, after: object
) -> Sequence[asyncpg.Record]:
    return await sessions.fetch(
        f"SELECT {table.column} AS name, key_id, wrapped FROM key_store.{table.name}"  # noqa: S608 - of constants
        f" WHERE tenant_id = $1 AND key_id = $2 AND wrapped IS NOT NULL"
        f" AND ($3::{table.type} IS NULL OR {table.column} > $3) ORDER BY {table.column} LIMIT {AT_ONCE}",
        tenant_id,
        key_id,
        after,
    )


def _anew(keys: TenantKeys, tenant_id: str, purpose: str, row: asyncpg.Record) -> Wrapped:
    return keys.wrap(tenant_id, purpose, keys.unwrap(tenant_id, purpose, Wrapped(row["key_id"], row["wrapped"])))


async def _replace(
    sessions: Sessions, table: _Table, tenant_id: str, rows: Sequence[asyncpg.Record], wrapped: Sequence[Wrapped]
) -> int:
    replaced = await sessions.fetch(
        f"UPDATE key_store.{table.name} AS t SET key_id = w.key_id, wrapped = w.wrapped"  # noqa: S608 - of constants
        f" FROM unnest($2::{table.type}[], $3::bytea[], $4::text[], $5::bytea[]) AS w(name, before, key_id, wrapped)"
        f" WHERE t.tenant_id = $1 AND t.{table.column} = w.name AND t.wrapped = w.before RETURNING 1",
        tenant_id,
        [row["name"] for row in rows],
        [row["wrapped"] for row in rows],
        [each.key_id for each in wrapped],
        [each.text for each in wrapped],
    )
    return len(replaced)
