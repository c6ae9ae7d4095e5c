"""The key store: wrapped keys in a small database of their own. One statement answers for any number of users."""

import hmac
import os
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from read_model.connecting.database_url import Url
from sealing import statements as sql
from sealing.cipher import erasure_key, new_key
from sealing.errors import KeysError, KeyStoreAwayError, WrongTenantKeysError
from sealing.months import MonthKeys
from sealing.sessions import PREPARE, READ_ONLY, Heard, Sessions
from sealing.statements import Noted
from sealing.tenant_keys import TenantKeys, Wrapped
from telemetry.health import DependencyState

RETIRED = "footfall_retired"  # the channel that tells of subjects nobody may seal for any more
RESTORED = "restored"  # said there instead of a subject

User = tuple[str, str]  # tenant and user id
ERASURES = 1_000  # that one process remembers
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Subject(msgspec.Struct, frozen=True):
    """A user as the log knows them, and the key."""

    subject_id: str
    tenant_id: str
    key: bytes
    created_at: datetime = LONG_AGO


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
    """The keys of one deployment. Every method but `state` raises KeyStoreAwayError if the store does not answer."""

    def __init__(self, url: Url, keys: TenantKeys, application: str) -> None:
        self._keys = keys
        self._sessions = Sessions(url, application)
        self.months = MonthKeys(self._sessions, keys)
        self._index_keys: dict[str, bytes] = {}
        self._noted: deque[Noted] = deque(maxlen=ERASURES)  # erasures that were begun here, of users who have a subject

    async def open(self) -> None:
        """Connects, and checks the tenant keys. Raises KeyStoreAwayError or WrongTenantKeysError."""
        await self._sessions.open()
        await self.check()

    async def close(self) -> None:
        """Disconnects."""
        await self._sessions.close()

    async def check(self) -> None:
        """Whether it answers, and the tenant keys are its own."""
        for row in await self._sessions.fetch("SELECT tenant_id, key_id, wrapped FROM key_store.tenants"):
            self._keys.unwrap(row["tenant_id"], "index", Wrapped(row["key_id"], row["wrapped"]))
        await self.months.check()

    async def state(self) -> DependencyState:
        """For readiness: it may answer, with our tenant keys, and still serve no new user."""
        try:
            await self.check()
            await self.check_rights()
        except KeysError as error:
            return DependencyState(ok=False, detail=str(error))
        return DependencyState(ok=True)

    async def check_rights(self) -> None:
        """Whether it takes new keys and destroys old ones."""
        [row] = await self._sessions.fetch(sql.RIGHTS)
        if row["read_only"]:
            raise KeyStoreAwayError(f"The key store takes no new keys.{READ_ONLY}")
        if row["lacking"]:
            raise KeyStoreAwayError(f"The key store's role lacks {', '.join(row['lacking'])}.{PREPARE}")

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
        rows = await self._sessions.fetch(
            sql.LEARN,
            *([each[column] for each in new] for column in range(3)),
            [each.key_id for each in wrapped],
            [each.text for each in wrapped],
        )
        return {tags[row["tenant_id"], row["user_tag"]]: self._subject(row) for row in rows}

    async def lacks(self, subject_ids: Sequence[str], months: Sequence[tuple[str, str]]) -> bool:
        """Whether it lacks a subject, one of the tenants' months, or a tenant: it had them, so it was restored."""
        tenants, names = [tenant for tenant, _ in months], [month for _, month in months]
        [row] = await self._sessions.fetch(sql.LACKS, subject_ids, tenants, names, list(self._index_keys))
        return bool(row[0])

    async def tell_restored(self) -> None:
        """Tells every process to look whether the store has all that it remembers."""
        await self._sessions.execute("SELECT pg_notify($1, $2)", RETIRED, RESTORED)

    async def keep_tenants(self) -> None:
        """Gives back the keys by which users are known here. Where the store has others, those are used from now on."""
        for tenant_id, key in list(self._index_keys.items()):
            await self._index_key(tenant_id, key)

    async def lacking(self, subject_ids: Iterable[str]) -> list[str]:
        """Those of the subjects that the store does not know, not even as destroyed."""
        return [str(row["subject_id"]) for row in await self._sessions.fetch(sql.LACKING, list(subject_ids))]

    async def give_back(self, subjects: Sequence[tuple[User, Subject]]) -> set[str]:
        """Stores the keys of subjects that it lacks. Returns those for which somebody may seal.

        The others were given back by another process a moment ago, or their user has a new subject meanwhile.
        """
        wrapped = [self._keys.wrap(one.tenant_id, f"subject {one.subject_id}", one.key) for _, one in subjects]
        rows = await self._sessions.fetch(
            sql.GIVE_BACK,
            [one.subject_id for _, one in subjects],
            [one.tenant_id for _, one in subjects],
            [await self._tag(user) for user, _ in subjects],
            [each.key_id for each in wrapped],
            [each.text for each in wrapped],
            [one.created_at for _, one in subjects],
        )
        return {str(row["subject_id"]) for row in rows if row["retired_at"] is None}

    async def keys_of(self, subject_ids: Iterable[str]) -> dict[str, Subject | Destroyed]:
        """The keys of subjects; those that are not here are not in the answer. Raises WrongTenantKeysError."""
        rows = await self._sessions.fetch(sql.OF_SUBJECTS, list(subject_ids))
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
            name,
            tenant,
            self._keys.unwrap(tenant, f"subject {name}", Wrapped(row["key_id"], row["wrapped"])),
            row["created_at"],
        )

    async def retire(self, user: User, erasure_id: UUID) -> Erasing:
        """The fence of an erasure: from now on nobody seals for these subjects, and the user gets a new one."""
        tenant_id, tag = user[0], await self._tag(user)
        async with self._sessions.session() as connection, connection.transaction():
            await connection.execute(sql.RETIRE, tenant_id, tag)
            rows = await connection.fetch(sql.SUBJECTS_OF_USER, tenant_id, tag)
            names = [row["subject_id"] for row in rows]
            key = self._erasure_key(rows, erasure_id)
            wrapped = self._keys.wrap(tenant_id, f"erasure {erasure_id}", key)
            noted = Noted(erasure_id, tenant_id, names, *wrapped)
            await connection.execute(sql.NOTE_ERASURE, *noted)
            for name in names:
                await connection.execute("SELECT pg_notify($1, $2)", RETIRED, str(name))
        self._noted.extend([noted] if names else [])
        return Erasing([str(name) for name in names], key)

    def _erasure_key(self, subjects: Sequence[asyncpg.Record], erasure_id: UUID) -> bytes:
        """By the subject that was made last: a store that lacks it cannot read the user's events either."""
        try:
            return erasure_key(self._subject(subjects[-1]).key, erasure_id) if subjects else new_key()
        except WrongTenantKeysError:  # no reason to keep the user
            return new_key()

    async def retire_again(self, subject_ids: Sequence[UUID]) -> None:
        """Retires subjects by name. Other processes hear of it when they look next."""
        await self._sessions.execute(sql.RETIRE_AGAIN, list(subject_ids))

    async def note_again(self) -> None:
        """Gives back the keys of erasures that were begun here: markers that wait for projectors name users by them."""
        known = {noted.erasure_id: noted for noted in self._noted}
        if known:
            subjects = [noted.subject_ids[0] for noted in known.values()]
            for row in await self._sessions.fetch(sql.LOST_ERASURES, list(known), subjects):
                await self._sessions.execute(sql.NOTE_ERASURE, *known[row["erasure_id"]])

    async def unretired(self, subject_ids: Sequence[str]) -> bool:
        """Whether the store has one of these as if nobody had retired it: an old backup brought it back."""
        return bool(await self._sessions.fetch(sql.UNRETIRED, list(subject_ids)))

    async def subjects_of(self, user: User) -> list[str]:
        """Every subject of a user that has a key, also those that are retired."""
        rows = await self._sessions.fetch(sql.SUBJECTS_OF_USER, user[0], await self._tag(user))
        return [str(row["subject_id"]) for row in rows]

    async def retired_since(self, moment: datetime | None, seconds: float) -> tuple[list[str], datetime]:
        """The subjects that were retired or destroyed since the look before, and the store's time now.

        Args:
            moment: The store's time then; None: this is the first look.
            seconds: How long ago that was, by the clock here.
        """
        rows = await self._sessions.fetch(sql.RETIRED_SINCE, moment, seconds)
        return [str(row["subject_id"]) for row in rows if row["subject_id"] is not None], rows[0]["asked_at"]

    async def erasure_keys(self, erasure_ids: Iterable[str]) -> dict[str, bytes]:
        """The keys that seal the users' ids in markers; without those that are destroyed."""
        return {
            str(row["erasure_id"]): self._keys.unwrap(
                row["tenant_id"], f"erasure {row['erasure_id']}", Wrapped(row["key_id"], row["wrapped"])
            )
            for row in await self._sessions.fetch(sql.ERASURE_KEYS, list(erasure_ids))
        }

    async def pending(self, old: float) -> list[Pending]:
        """Erasures whose keys are not destroyed. `old`: seconds after which one is old."""
        rows = await self._sessions.fetch(
            "SELECT erasure_id, subject_ids, requested_at < now() - make_interval(secs => $1) AS is_old"
            " FROM key_store.erasures",
            old,
        )
        return [Pending(*row.values()) for row in rows]

    async def destroy(self, subject_ids: Sequence[UUID], erasure_ids: Sequence[UUID] = ()) -> None:
        """Destroys keys of subjects, and those of erasures. Again does no harm."""
        await self._sessions.execute(sql.DESTROY, list(subject_ids))
        await self._sessions.execute(sql.FORGET_ERASURES, list(erasure_ids))

    async def destroyed(self) -> int:
        """How many subjects were destroyed."""
        [row] = await self._sessions.fetch("SELECT count(*) FROM key_store.destroyed")
        return int(row[0])

    async def now(self) -> datetime:
        """The store's time."""
        return (await self.retired_since(None, 0.0))[1]

    async def brought_back(self) -> list[UUID]:
        """The destroyed subjects that have a key all the same: a backup was restored table by table."""
        return [row["subject_id"] for row in await self._sessions.fetch(sql.BROUGHT_BACK)]

    def listening(self, heard: Heard) -> AbstractAsyncContextManager[Any]:
        """A connection of its own that calls `heard` with each subject that is retired."""
        return self._sessions.listening(RETIRED, heard)

    async def _tag(self, user: User) -> bytes:
        tenant_id, user_id = user
        key = self._index_keys.get(tenant_id)
        if key is None:
            key = await self._index_key(tenant_id, new_key())
        return hmac.digest(key, user_id.encode(), sha256)

    async def _index_key(self, tenant_id: str, mine: bytes) -> bytes:
        """The key by which the tenant's users are known; `mine` if the store has none."""
        wrapped = self._keys.wrap(tenant_id, "index", mine)
        rows: Sequence[asyncpg.Record] = ()
        while not rows:  # another session may have made it a moment ago
            rows = await self._sessions.fetch(sql.TENANT, tenant_id, wrapped.key_id, wrapped.text)
        stored = Wrapped(rows[0]["key_id"], rows[0]["wrapped"])
        key = self._index_keys[tenant_id] = self._keys.unwrap(tenant_id, "index", stored)
        return key
