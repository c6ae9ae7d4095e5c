"""Seals records for the log: the subjects of users are remembered, and learned from the key store once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.event import DEFAULT_TENANT
from contracts.record import TENANT_SEPARATOR, EventRecord, key_of
from contracts.sealed.events import naming, parts_to_seal, sealed_record
from contracts.types import is_product
from sealing.cipher import cipher_of, nonces
from sealing.errors import KeysError, KeyStoreAwayError, WrongTenantKeysError
from sealing.months import Month, month_of, months_kept, months_needed
from sealing.remembered import Remembered, Witnesses
from sealing.store import RESTORED, KeyStore, Subject, User
from telemetry.background import running_beside
from telemetry.connections import once_there
from telemetry.health import DependencyState
from telemetry.logs import get_logger

WATCH = 2.0  # seconds between looks at what was retired
RETRY = 0.5  # seconds
LOOK_TIMEOUT = 5.0  # seconds that somebody waits for a key, whatever has to be asked for it
AT_ONCE = 5_000  # subjects that are given back in one statement
WITNESSES = 500
COMPARED = 1_000  # subjects that were retired last: if the store has one of them as if it were not, it was restored

ProductOf = Callable[[bytes], bytes]  # JSON of what is to be sealed to the JSON of the product
NO_PRODUCT = b"null"
CLOCK = "Is the clock of this machine right? Nobody can destroy the key of a month that is not over."


class Known:
    """What seals the events of one subject, and of which month."""

    __slots__ = ("cipher", "key", "month", "named", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.named = naming(subject.tenant_id, subject.subject_id)
        self.key = key_of(subject.tenant_id, subject.subject_id)
        self.month = b""
        self.cipher: AESGCM | None = None


class Sealer:
    """Seals records of remembered users without waiting; learns the others in one statement for all."""

    def __init__(self, store: KeyStore, products: Mapping[str, ProductOf], limit: int, startup_timeout: float) -> None:
        """`products`: of the types whose events name a product. `startup_timeout`: seconds."""
        self._store = store
        self._products = {name.encode(): product_of for name, product_of in products.items()}
        self._known: Remembered[bytes, Known] = Remembered(limit)
        self._limit = limit
        self._keys: dict[str, bytes] = {}  # the records' key of each subject that is remembered, and perhaps of others
        self._months: dict[str, dict[bytes, bytes]] = {}
        self._witnesses = Witnesses(WITNESSES)
        self._is_told = False  # that the store was restored, or may have been
        self._gone: dict[str, None] = {}  # subjects for which nobody may seal any more, the last that were heard of
        self._destroyed: set[Month] = set()
        self._wrong_keys = ""  # what the last look said of the tenant keys
        self._startup_timeout = startup_timeout
        self._next_nonce = nonces().__next__
        self._log = get_logger("sealing")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connects to the key store, and follows what is retired. Raises WrongTenantKeysError."""
        await once_there("the key store", self._store.open, (KeyStoreAwayError,), self._startup_timeout)
        await self._more_months([DEFAULT_TENANT])
        try:
            async with running_beside(self._watch, "retired-subjects"):
                yield
        finally:
            await self._store.close()

    async def state(self) -> DependencyState:
        """For readiness: users that are remembered are served without the store, and no others."""
        found = await self._store.state()
        trouble = self._wrong_keys or _destroyed_now(self._destroyed)
        return DependencyState(ok=False, detail=trouble) if found.ok and trouble else found

    def sealed(self, record: EventRecord) -> EventRecord | None:
        """The record, sealed; None: its user or month is not known yet, see `learn`."""
        known = self._known.get(record.key)
        if known is None:
            return None
        month, clear, secret = parts_to_seal(record.value, known.named)
        cipher = known.cipher
        if known.month != month or cipher is None:
            month_key = self._months.get(known.subject.tenant_id, {}).get(month)
            if month_key is None:
                return None
            known.month, known.cipher = month, cipher_of(known.subject.key, month_key)
            cipher = known.cipher
        product_of = self._products.get(record.headers[0][1])
        clear += NO_PRODUCT if product_of is None else product_of(secret)
        nonce = self._next_nonce()
        return sealed_record(record, known.key, clear, nonce + cipher.encrypt(nonce, secret, clear))

    async def learn(self, records: Sequence[EventRecord]) -> bool:
        """Learns what `sealed` needs for these records. Returns False within `LOOK_TIMEOUT` if the store does not tell.

        Raises what is a fault of this program.
        """
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                await self._learn(records)
        except (KeysError, TimeoutError) as error:
            self._wrong_keys = str(error) if isinstance(error, WrongTenantKeysError) else self._wrong_keys
            self._log.error("keys_not_learned", error=type(error).__name__, detail=str(error), events=len(records))
            return False
        self._wrong_keys = ""
        return True

    async def _learn(self, records: Sequence[EventRecord]) -> None:
        keys = {record.key: user_of(record.key) for record in records if self._known.get(record.key) is None}
        await self._more_months(sorted({user_of(record.key)[0] for record in records}))
        found = await self._usable(list(keys.values())) if keys else {}
        for key, user in keys.items():
            self._remember(key, Known(found[user]))

    async def _usable(self, users: Sequence[User]) -> dict[User, Subject]:
        """The users' subjects. One that is known to be retired came back with an old backup: the user gets another."""
        found = await self._store.learn(users)
        while back := [user for user, one in found.items() if one.subject_id in self._gone]:
            await self._retire_again()
            found |= await self._store.learn(back)
        return found

    def _remember(self, key: bytes, known: Known) -> None:
        self._known.put(key, known)
        self._keys[known.subject.subject_id] = key
        self._witnesses.learned((known.subject.created_at, known.subject.subject_id))
        if len(self._keys) > 2 * self._limit:
            self._keys = {known.subject.subject_id: key for key, known in self._known.items()}

    async def _more_months(self, tenants: Sequence[str]) -> None:
        wanted = months_needed()
        for tenant in tenants:
            if wanted - {month.decode() for month in self._months.get(tenant, {})}:
                self._learned(tenant, await self._store.months.of(tenant, wanted))

    def _learned(self, tenant: str, found: Mapping[str, bytes | None]) -> None:
        self._months[tenant] = {month.encode(): key for month, key in found.items() if key is not None}
        self._note_destroyed((tenant, month) for month, key in found.items() if key is None)

    def _note_destroyed(self, months: Iterable[Month]) -> None:
        """Nobody seals by a month's key that was destroyed: what it seals could never be read."""
        for tenant, month in set(months) - self._destroyed:
            self._destroyed.add((tenant, month))
            if month in months_needed():
                self._log.error("month_key_destroyed", tenant_id=tenant, month=month, remedy=CLOCK)

    async def _watch(self) -> None:
        """Forgets, for ever, the subjects that are retired: by a notice at once, and by a look every few seconds."""
        last, looked_at = None, time.monotonic()
        while True:
            with contextlib.suppress(KeysError):
                async with self._store.listening(self._heard) as connection:
                    self._is_told = True  # nobody heard anything meanwhile
                    while not connection.is_closed():
                        asked_at = time.monotonic()
                        gone, last = await self._store.retired_since(last, asked_at - looked_at)
                        looked_at = asked_at
                        self._forget(set(gone))
                        await self._keep_what_is_remembered()
                        await self._more_months(list(self._months))
                        await asyncio.sleep(WATCH)
            await asyncio.sleep(RETRY)

    async def _keep_what_is_remembered(self) -> None:
        """Gives back what a store that was restored lacks: of one older than the newest subject, or than a month."""
        kept = months_kept()
        months = [(tenant, name) for tenant, of in self._months.items() for name in kept if name.encode() in of]
        for tenant in await self._store.months.tenants_changed(months):
            await self._keep_months(tenant, kept)
        await self._store.note_again()
        if await self._store.unretired(list(islice(reversed(self._gone), COMPARED))):
            await self._retire_again()
        is_told, self._is_told = self._is_told, False
        if not (await self._store.lacks(self._witnesses.look(), months) or is_told):
            return
        await self._store.check()  # another deployment's gets nothing
        await self._store.keep_tenants()
        for tenant in list(self._months):
            await self._keep_months(tenant, kept)
        remembered = [(user_of(key), known.subject) for key, known in self._known.items()]
        unusable, given = await self._given_back(remembered)
        self._drop(unusable)
        self._witnesses.begin_anew((one.subject.created_at, one.subject.subject_id) for one in self._known.values())
        if given or not is_told:
            self._log.warning("keys_given_back", subjects=given)
        if not is_told:
            await self._store.tell_restored()

    async def _retire_again(self) -> None:
        """A backup from before erasures has their subjects as if nobody had retired them."""
        gone = [UUID(subject_id) for subject_id in self._gone]
        for start in range(0, len(gone), AT_ONCE):
            await self._store.retire_again(gone[start : start + AT_ONCE])
        self._log.warning("subjects_retired_again", subjects=len(gone))

    async def _given_back(self, remembered: Sequence[tuple[User, Subject]]) -> tuple[set[str], int]:
        """Gives back the subjects that the store lacks. Returns those for which it may not seal, and how many it gave.

        A key whose user was erased is destroyed again by the read model's register, as any that a backup brings back.
        """
        unusable: set[str] = set()
        given = 0
        for start in range(0, len(remembered), AT_ONCE):
            by_name = {subject.subject_id: (user, subject) for user, subject in remembered[start : start + AT_ONCE]}
            lacking = await self._store.lacking(by_name)
            if lacking:
                unusable |= set(lacking) - await self._store.give_back([by_name[name] for name in lacking])
                given += len(lacking)
        return unusable, given

    async def _keep_months(self, tenant: str, kept: set[str]) -> None:
        """Gives back a tenant's months. Where the store has another, that one seals from now on, and mine is kept."""
        mine = {month.decode(): key for month, key in self._months[tenant].items() if month.decode() in kept}
        found = await self._store.months.of(tenant, months_needed() | mine.keys(), mine)
        changed = [month for month, key in mine.items() if found[month] != key]
        self._learned(tenant, found)
        if changed:
            for known in self._known.values():
                if known.subject.tenant_id == tenant:
                    known.month = b""
        for month in changed:
            if found[month] is not None:
                self._log.error("month_key_replaced", tenant_id=tenant)
                await self._store.months.keep_other(tenant, month, mine[month])

    def _heard(self, _connection: Any, _process: int, _channel: str, subject_id: str) -> None:
        if subject_id == RESTORED:
            self._is_told = True
        else:
            self._forget({subject_id})

    def _forget(self, gone: set[str]) -> None:
        """Nobody seals for these any more."""
        self._gone |= dict.fromkeys(gone)
        while len(self._gone) > self._limit:
            del self._gone[next(iter(self._gone))]
        self._drop(gone)

    def _drop(self, subject_ids: Iterable[str]) -> None:
        for subject_id in subject_ids:
            key = self._keys.pop(subject_id, None)
            known = None if key is None else self._known.get(key)
            if key is not None and known is not None and known.subject.subject_id == subject_id:
                self._known.drop(key)


def _destroyed_now(months: Iterable[Month]) -> str:
    """What readiness says of months by which this process would seal now; empty: there is nothing to say."""
    of = sorted(tenant for tenant, month in months if month == month_of(datetime.now(UTC)))
    return (
        f"The key of this month of tenant {of[0]} is destroyed, so nothing can be sealed for it. {CLOCK}" if of else ""
    )


def user_of(key: bytes) -> User:
    """The user of a record's key, as `contracts.record.key_of` made it."""
    tenant, separator, user = key.partition(TENANT_SEPARATOR)
    return (tenant.decode(), user.decode()) if separator else (DEFAULT_TENANT, tenant.decode())


def product_reader(field: str) -> ProductOf:
    """Reads the product as the read models take it; what names no product is not in the clear."""
    payload = msgspec.defstruct("Payload", [("product", Any, msgspec.field(name=field, default=None))])
    decode = msgspec.json.Decoder(msgspec.defstruct("Secret", [("payload", payload)])).decode
    encode = msgspec.json.Encoder().encode

    def product_of(secret: bytes) -> bytes:
        product = decode(secret).payload.product  # type: ignore[attr-defined]  # fields that are made above
        return encode(product) if is_product(product) else NO_PRODUCT

    return product_of
