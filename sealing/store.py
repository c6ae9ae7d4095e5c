"""The key store: wrapped keys in a small database of their own. One statement answers for any number of users."""

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from contracts.sealed.events import MONTH
from read_model.connecting.database_url import Url
from read_model.connecting.pool import Connection, connect, open_pool
from read_model.connecting.unavailable import OF_POSTGRESQL
from sealing import statements as sql
from sealing.cipher import new_key
from sealing.errors import KeyStoreAwayError
from sealing.tenant_keys import TenantKeys, Wrapped

QUERY_TIMEOUT = 5.0  # seconds for a session and its statements
SESSIONS = 4  # at the same time
RETIRED = "footfall_retired"  # the channel that tells of subjects nobody may seal for any more

User = tuple[str, str]  # tenant and user id
Heard = Callable[[Any, int, str, Any], None]  # a listener, as asyncpg calls it: the last but one is the payload


class Subject(msgspec.Struct, frozen=True):
    """A user as the log knows them, and the key."""

    subject_id: str
    tenant_id: str
    key: bytes


class Destroyed(msgspec.Struct, frozen=True):
    """Somebody destroyed the key: the user was erased."""


DESTROYED = Destroyed()


class Pending(msgspec.Struct, frozen=True):
    """An erasure whose keys are not destroyed yet."""

    erasure_id: UUID
    subject_ids: list[UUID]
    is_old: bool


class Erasing(msgspec.Struct, frozen=True):
    """A user whose subjects are retired. `key`: seals the user's id in the marker, until every row is gone."""

    subject_ids: list[str]
    key: bytes


def new_subject_id() -> UUID:
    """A random subject id."""
    return UUID(bytes=os.urandom(16), version=4)


class KeyStore:
    """The keys of one deployment. Every method but `check` raises KeyStoreAwayError if the store does not answer."""

    def __init__(self, url: Url, keys: TenantKeys, application: str) -> None:
        self._url = url
        self._keys = keys
        self._application = application
        self._pool: asyncpg.Pool | None = None
        self._index_keys: dict[str, bytes] = {}

    async def open(self) -> None:
        """Connects, and checks the tenant keys. Raises KeyStoreAwayError or WrongTenantKeysError."""
        if self._pool is None:
            async with _talking():
                self._pool = await open_pool(
                    self._url,
                    application=self._application,
                    min_size=1,
                    max_size=SESSIONS,
                    stateless=True,
                )
        await self.check()

    async def close(self) -> None:
        """Disconnects."""
        if self._pool is not None:
            self._pool.terminate()

    async def check(self) -> None:
        """Whether it answers, and the tenant keys are its own."""
        for row in await self._fetch("SELECT tenant_id, key_id, wrapped FROM key_store.tenants"):
            self._keys.unwrap(row["tenant_id"], "index", Wrapped(row["key_id"], row["wrapped"]))

    async def learn(self, users: Sequence[User]) -> dict[User, Subject]:
        """The subjects of users, made for those who have none."""
        found: dict[User, Subject] = {}
        missing = list(dict.fromkeys(users))
        while missing:
            found |= await self._learn(missing)
            missing = [user for user in missing if user not in found]
        return found

    async def _learn(self, users: Sequence[User]) -> dict[User, Subject]:
        tags = {(user[0], await self._tag(user)): user for user in users}
        new = [(new_subject_id(), *tag) for tag in tags]
        wrapped = [self._keys.wrap(tenant, f"subject {name}", new_key()) for name, tenant, _ in new]
        rows = await self._fetch(
            sql.LEARN,
            *([each[column] for each in new] for column in range(3)),
            [each.key_id for each in wrapped],
            [each.text for each in wrapped],
        )
        return {tags[row["tenant_id"], row["user_tag"]]: self._subject(row) for row in rows}

    async def keys_of(self, subject_ids: Iterable[str]) -> dict[str, Subject | Destroyed]:
        """The keys of subjects; those that are not here are not in the answer. Raises WrongTenantKeysError."""
        rows = await self._fetch(sql.OF_SUBJECTS, list(subject_ids))
        found: dict[str, Subject | Destroyed] = {}
        for row in rows:
            if row["tenant_id"] is None:
                found[str(row["subject_id"])] = DESTROYED
            else:
                found.setdefault(str(row["subject_id"]), self._subject(row))
        return found

    def _subject(self, row: asyncpg.Record) -> Subject:
        name, tenant = str(row["subject_id"]), row["tenant_id"]
        return Subject(
            name, tenant, self._keys.unwrap(tenant, f"subject {name}", Wrapped(row["key_id"], row["wrapped"]))
        )

    async def months(self, tenant_id: str, wanted: Iterable[str] = ()) -> dict[str, bytes | None]:
        """The tenant's keys by month; of `wanted` those that never were are made. None: it is destroyed."""
        rows = await self._fetch(sql.MONTHS, tenant_id)
        new = sorted(set(wanted) - {row["month"] for row in rows})
        if new:
            keys = [self._keys.wrap(tenant_id, f"month {month}", new_key()) for month in new]
            await self._execute(
                sql.MAKE_MONTHS, tenant_id, new, [key.key_id for key in keys], [key.text for key in keys]
            )
            rows = await self._fetch(sql.MONTHS, tenant_id)
        return {row["month"]: self._month(tenant_id, row) for row in rows}

    def _month(self, tenant_id: str, row: asyncpg.Record) -> bytes | None:
        if row["wrapped"] is None:
            return None
        return self._keys.unwrap(tenant_id, f"month {row['month']}", Wrapped(row["key_id"], row["wrapped"]))

    async def retire(self, user: User, erasure_id: UUID) -> Erasing:
        """The fence of an erasure: from now on nobody seals for these subjects, and the user gets a new one."""
        tenant_id, tag, key = user[0], await self._tag(user), new_key()
        wrapped = self._keys.wrap(tenant_id, f"erasure {erasure_id}", key)
        async with self._session() as connection, connection.transaction():
            await connection.execute(sql.RETIRE, tenant_id, tag)
            rows = await connection.fetch(sql.SUBJECTS_OF_USER, tenant_id, tag)
            names = [row["subject_id"] for row in rows]
            await connection.execute(sql.NOTE_ERASURE, erasure_id, tenant_id, names, wrapped.key_id, wrapped.text)
            for name in names:
                await connection.execute("SELECT pg_notify($1, $2)", RETIRED, str(name))
        return Erasing([str(name) for name in names], key)

    async def subjects_of(self, user: User) -> list[str]:
        """Every subject of a user that has a key, also those that are retired."""
        rows = await self._fetch(sql.SUBJECTS_OF_USER, user[0], await self._tag(user))
        return [str(row["subject_id"]) for row in rows]

    async def retired_since(self, moment: datetime | None) -> tuple[list[str], datetime]:
        """The subjects that were retired or destroyed since then, and the store's time now. None: since long ago."""
        rows = await self._fetch(sql.RETIRED_SINCE, moment)
        return [str(row["subject_id"]) for row in rows if row["subject_id"] is not None], rows[0]["asked_at"]

    async def erasure_keys(self, erasure_ids: Iterable[str]) -> dict[str, bytes]:
        """The keys that seal the users' ids in markers; without those that are destroyed."""
        return {
            str(row["erasure_id"]): self._keys.unwrap(
                row["tenant_id"], f"erasure {row['erasure_id']}", Wrapped(row["key_id"], row["wrapped"])
            )
            for row in await self._fetch(sql.ERASURE_KEYS, list(erasure_ids))
        }

    async def pending(self, old: float) -> list[Pending]:
        """Erasures whose keys are not destroyed. `old`: seconds after which one is old."""
        rows = await self._fetch(
            "SELECT erasure_id, subject_ids, requested_at < now() - make_interval(secs => $1) AS is_old"
            " FROM key_store.erasures",
            old,
        )
        return [Pending(*row.values()) for row in rows]

    async def destroy(self, subject_ids: Sequence[UUID], erasure_ids: Sequence[UUID] = ()) -> None:
        """Destroys keys of subjects, and those of erasures. Again does no harm."""
        await self._execute(sql.DESTROY, list(subject_ids))
        await self._execute(sql.FORGET_ERASURES, list(erasure_ids))

    async def destroy_months(self, tenant_id: str, before: str) -> list[str]:
        """Destroys the tenant's keys of all months before this one. Returns which."""
        rows = await self._fetch(
            "UPDATE key_store.months SET wrapped = NULL WHERE tenant_id = $1 AND month < $2 AND wrapped IS NOT NULL"
            " RETURNING month",
            tenant_id,
            before,
        )
        return sorted(row["month"] for row in rows)

    async def destroyed(self) -> int:
        """How many subjects were destroyed."""
        [row] = await self._fetch("SELECT count(*) FROM key_store.destroyed")
        return int(row[0])

    async def brought_back(self) -> list[UUID]:
        """The destroyed subjects that have a key all the same: a backup was restored table by table."""
        return [row["subject_id"] for row in await self._fetch(sql.BROUGHT_BACK)]

    @asynccontextmanager
    async def listening(self, heard: Heard) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own that calls `heard` with each subject that is retired."""
        async with _talking():
            connection = await connect(self._url, self._application, query_timeout=QUERY_TIMEOUT)
        try:
            async with _talking():
                await connection.add_listener(RETIRED, heard)
            yield connection
        finally:
            connection.terminate()

    async def _tag(self, user: User) -> bytes:
        tenant_id, user_id = user
        key = self._index_keys.get(tenant_id)
        if key is None:
            mine = self._keys.wrap(tenant_id, "index", new_key())
            rows: Sequence[asyncpg.Record] = ()
            while not rows:  # another session may have made it a moment ago
                rows = await self._fetch(sql.TENANT, tenant_id, mine.key_id, mine.text)
            stored = Wrapped(rows[0]["key_id"], rows[0]["wrapped"])
            key = self._index_keys[tenant_id] = self._keys.unwrap(tenant_id, "index", stored)
        return hmac.digest(key, user_id.encode(), sha256)

    async def _fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        async with self._session() as connection:
            found: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return found

    async def _execute(self, statement: str, *arguments: object) -> None:
        async with self._session() as connection:
            await connection.execute(statement, *arguments)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        """A session, for `QUERY_TIMEOUT` at most. One that did not answer in time is ended at once.

        To return it instead would wait for the answer to a request to cancel, which a store that hangs never gives.
        """
        pool = self._connected()
        async with _talking(), asyncio.timeout(QUERY_TIMEOUT):
            connection = await pool.acquire()
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            finally:
                await pool.release(connection)

    def _connected(self) -> asyncpg.Pool:
        if self._pool is None:
            raise KeyStoreAwayError("The key store is not connected yet.")
        return self._pool


@asynccontextmanager
async def _talking() -> AsyncIterator[None]:
    """What the store or its driver raises means that it cannot be used now. Its text may quote values.

    Anything else, also a value that the driver does not take, is a fault of this program, and no word of the store's.
    """
    try:
        yield
    except OF_POSTGRESQL as error:
        if isinstance(error, ValueError):
            raise
        code = getattr(error, "sqlstate", None)
        name = f"{type(error).__name__} {code}" if code else type(error).__name__
        raise KeyStoreAwayError(f"The key store does not answer or refuses: {name}.") from error


def month_of(moment: datetime) -> str:
    """The month whose key seals what happens at this moment (UTC)."""
    return moment.isoformat()[:MONTH]
