"""A key store of a test's own, and a scan of every byte that Kafka and PostgreSQL keep."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import asyncpg

from bench.databases import drop_database
from contracts.event import DEFAULT_TENANT
from contracts.record import HEADER_EVENT_TYPE, EventRecord
from sealing.schema import prepare
from sealing.sealer import Sealer, product_reader
from sealing.store import KeyStore
from sealing.tenant_keys import parse_tenant_keys
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.producing import Raw
from tests.servers import at_database

LOGIN, PASSWORD = "footfall_sealer", "sealer"


@dataclass
class KeyStoreOfTest:
    """The key store's database, and what processes need to use it."""

    admin_url: str
    url: str
    tenant_keys: str

    def environment(self) -> dict[str, str]:
        return {"PRIVACY": "sealed", "KEY_STORE_URL": self.url, "TENANT_KEYS": self.tenant_keys}

    def environment_with_command(self, command: str) -> dict[str, str]:
        """The same, with the tenant keys from a command."""
        found = {**self.environment(), "TENANT_KEYS_COMMAND": command}
        del found["TENANT_KEYS"]
        return found

    def sealed(self, records: Iterable[Raw], months: Sequence[str] = ()) -> list[Raw]:
        """Plain records of events, sealed past any command side. `months`: that are not this one."""
        return asyncio.run(_sealed(self.admin_url, self, list(records), months))

    def destroy(self, subject_ids: Sequence[UUID], erasure_ids: Sequence[UUID]) -> None:
        """Destroys keys, as the projector that keeps them does."""
        asyncio.run(_destroyed(self, subject_ids, erasure_ids))

    def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return asyncio.run(_fetch(self.admin_url, statement, *arguments))


def a_tenant_key(name: str = "k1") -> str:
    return f"* {name} {base64.b64encode(os.urandom(32)).decode()}"


def key_store_of(footfall: Footfall) -> KeyStoreOfTest:
    """A new database beside that of the read model, with a role that may do no more than it must."""
    return key_store_at(footfall.servers.admin_url)


def key_store_at(admin: str) -> KeyStoreOfTest:
    """The same, beside the database of this URL."""
    name = f"{admin.rsplit('/', 1)[1]}_keys"
    asyncio.run(_make(admin, name))
    url = at_database(admin, name)
    asyncio.run(prepare(url))
    asyncio.run(_run(url, f"GRANT footfall_keys TO {LOGIN}"))
    host = url.rpartition("@")[2]
    return KeyStoreOfTest(url, f"postgresql://{LOGIN}:{quote(PASSWORD)}@{host}", a_tenant_key())


@asynccontextmanager
async def sealer_of(keys: KeyStoreOfTest) -> AsyncIterator[tuple[Sealer, KeyStore]]:
    """What seals in a process of its own; the test looks for lost keys itself."""
    store = KeyStore(keys.url, parse_tenant_keys(keys.tenant_keys), "footfall-test")
    await store.open()
    try:
        yield Sealer(store, {}, 1000, PATIENCE), store
    finally:
        await store.close()


async def _sealed(url: str, keys: KeyStoreOfTest, records: Sequence[Raw], months: Sequence[str]) -> list[Raw]:
    store = KeyStore(url, parse_tenant_keys(keys.tenant_keys), "footfall-test")
    sealer = Sealer(store, {"PRODUCT_VIEW": product_reader("productId")}, 1000, PATIENCE)
    await store.open()
    try:
        await store.months.of(DEFAULT_TENANT, months)
        found = []
        for raw in records:
            assert raw.value
            assert raw.key
            record = EventRecord(raw.key, raw.value, [(HEADER_EVENT_TYPE, b"PRODUCT_VIEW")])
            await sealer.learn([record])
            sealed = sealer.sealed(record)
            assert sealed
            found.append(Raw(sealed.value, sealed.key))
        return found
    finally:
        await store.close()


async def _destroyed(keys: KeyStoreOfTest, subject_ids: Sequence[UUID], erasure_ids: Sequence[UUID]) -> None:
    store = KeyStore(keys.admin_url, parse_tenant_keys(keys.tenant_keys), "footfall-test")
    await store.open()
    try:
        await store.destroy(subject_ids, erasure_ids)
    finally:
        await store.close()


async def _make(admin: str, name: str) -> None:
    await drop_database(admin, name)
    await _run(admin, f"CREATE DATABASE {name}")
    await _run(
        admin,
        f"DO $$ BEGIN IF to_regrole('{LOGIN}') IS NULL THEN CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}'; END IF; "
        "END $$",
    )


async def _run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        found: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return found
    finally:
        await connection.close()


def segments(footfall: Footfall, topic: str) -> list[Path]:
    """The files in which the embedded Kafka keeps a topic."""
    assert footfall.servers.files is not None, "the servers run elsewhere"
    return list((footfall.servers.files / "kafka" / "data").glob(f"{topic}-[0-9]*/*.log"))


def in_segments(footfall: Footfall, topic: str, *needles: str) -> set[str]:
    """Those of the words that stand in the topic's files. Nothing may be compressed."""
    files = segments(footfall, topic)
    assert files, topic
    content = b"".join(file.read_bytes() for file in files)
    return {needle for needle in needles if needle.encode() in content}
