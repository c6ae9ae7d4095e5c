"""The keys of months in the key store: made ahead, given back, destroyed; some of them may replace lost ones."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import asyncpg
import msgspec

from contracts.sealed.events import MONTH
from sealing import statements as sql
from sealing.cipher import new_key
from sealing.sessions import Sessions
from sealing.tenant_keys import TenantKeys, Wrapped

AHEAD = timedelta(days=3)  # the next month's key is there before the month

Month = tuple[str, str]  # of a tenant, written 2026-11


class MadeAnew(msgspec.Struct, frozen=True):
    """A month's key that was made when the month had begun: events from before `at` may be sealed by another, lost one.

    `given_up`: an operator said that those are lost.
    """

    at: datetime
    given_up: bool


class MonthKeys:
    """Every method raises KeyStoreAwayError if the store does not answer."""

    def __init__(self, sessions: Sessions, keys: TenantKeys) -> None:
        self._sessions = sessions
        self._keys = keys
        self._seen: dict[Month, bytes | None] = {}  # wrapped, as they were told last

    async def check(self) -> None:
        """Looks at one month of each tenant key. Raises WrongTenantKeysError."""
        for row in await self._sessions.fetch(sql.ONE_MONTH_OF_EACH_KEY):
            self._unwrapped(row["tenant_id"], row)

    async def of(
        self, tenant_id: str, wanted: Iterable[str] = (), mine: Mapping[str, bytes] = MappingProxyType({})
    ) -> dict[str, bytes | None]:
        """The tenant's keys by month. None: it is destroyed.

        Of `wanted` those that are not there are made; or given back, where `mine` has them.
        """
        rows = await self._sessions.fetch(sql.MONTHS, tenant_id)
        new = sorted(set(wanted) - {row["month"] for row in rows})
        if new:
            keys = [self._keys.wrap(tenant_id, f"month {month}", mine.get(month) or new_key()) for month in new]
            await self._sessions.execute(
                sql.MAKE_MONTHS,
                tenant_id,
                new,
                [key.key_id for key in keys],
                [key.text for key in keys],
                [month not in mine for month in new],
            )
            rows = await self._sessions.fetch(sql.MONTHS, tenant_id)
        self._seen |= {(tenant_id, row["month"]): row["wrapped"] for row in rows}
        return {row["month"]: None if row["wrapped"] is None else self._unwrapped(tenant_id, row) for row in rows}

    def _unwrapped(self, tenant_id: str, row: asyncpg.Record) -> bytes:
        return self._keys.unwrap(tenant_id, f"month {row['month']}", Wrapped(row["key_id"], row["wrapped"]))

    async def tenants_changed(self, months: Sequence[Month]) -> set[str]:
        """The tenants of those of the months whose keys are not as they were told last: destroyed, or others."""
        tenants, names = [tenant for tenant, _ in months], [month for _, month in months]
        rows = await self._sessions.fetch(sql.SOME_MONTHS, tenants, names)
        return {row["tenant_id"] for row in rows if row["wrapped"] != self._seen[row["tenant_id"], row["month"]]}

    async def others(self, tenant_id: str) -> dict[str, list[bytes]]:
        """The tenant's keys of months that have another one now."""
        found: dict[str, list[bytes]] = {}
        for row in await self._sessions.fetch(sql.OTHER_MONTHS, tenant_id):
            found.setdefault(row["month"], []).append(self._unwrapped(tenant_id, row))
        return found

    async def keep_other(self, tenant_id: str, month: str, key: bytes) -> None:
        """Keeps a key by which events were sealed: the month has another one now."""
        if key not in (await self.others(tenant_id)).get(month, []):
            wrapped = self._keys.wrap(tenant_id, f"month {month}", key)
            await self._sessions.execute(sql.KEEP_OTHER, tenant_id, month, *wrapped)

    async def made_anew(self, tenant_id: str) -> dict[str, MadeAnew]:
        """The tenant's months whose key may replace one that was lost."""
        rows = await self._sessions.fetch(sql.MADE_ANEW, tenant_id)
        return {row["month"]: MadeAnew(row["made_anew_at"], row["older_given_up"]) for row in rows}

    async def destroy(self, tenant_id: str, before: str) -> list[str]:
        """Destroys the tenant's keys of all months before this one. Returns which."""
        await self._sessions.execute(sql.DESTROY_OTHERS, tenant_id, before)
        return sorted(row["month"] for row in await self._sessions.fetch(sql.DESTROY_MONTHS, tenant_id, before))

    async def give_up(self, tenant_id: str, months: Sequence[str]) -> list[str]:
        """Notes months as destroyed whose keys are lost. Returns those that the store knows: then it notes none."""
        rows = await self._sessions.fetch(sql.GIVE_UP_MONTHS, tenant_id, list(months))
        return [row["month"] for row in rows]

    async def give_up_older(self, tenant_id: str, months: Sequence[str]) -> list[str]:
        """Of months whose key was made anew, notes that what an older one sealed is lost. Returns which."""
        rows = await self._sessions.fetch(sql.GIVE_UP_OLDER, tenant_id, list(months))
        return sorted(row["month"] for row in rows)


def month_of(moment: datetime) -> str:
    """The month whose key seals what happens at this moment (UTC)."""
    return moment.isoformat()[:MONTH]


def months_needed() -> set[str]:
    """The months by which events are sealed now and soon."""
    now = datetime.now(UTC)
    return {month_of(now), month_of(now + AHEAD)}


def months_kept() -> set[str]:
    """The months that are given back to a store that lacks them."""
    return months_needed() | {month_before(datetime.now(UTC))}


def month_before(moment: datetime) -> str:
    """The month that ended last: events of its last hours may be written still."""
    return month_of(moment.replace(day=1) - timedelta(days=1))
