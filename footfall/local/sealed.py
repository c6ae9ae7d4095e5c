"""What `footfall up` adds for PRIVACY=sealed: a key store beside the read model, and a tenant key in a file."""

import asyncio
import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from footfall.local.embedded.stack import StackAddresses
from footfall.processes.environment import load_settings
from sealing.schema import prepare
from sealing.settings import SealingSettings

DATABASE, LOGIN = "footfall_keys", "footfall_sealer"
KEYS_FILE, URL_FILE = "tenant-keys", "key-store-url"  # in the state directory


def prepare_key_store(stack: StackAddresses, state_dir: Path) -> Mapping[str, str]:
    """Returns the environment of processes that seal or open; empty if this state has never been sealed.

    A state that was sealed once keeps its key store: its log cannot be read without.
    """
    wanted = load_settings(SealingSettings)
    if wanted.has_store() or not (wanted.privacy == "sealed" or (state_dir / KEYS_FILE).exists()):
        return {}
    password = secrets.token_hex(24)
    asyncio.run(_make(stack.admin_url, password))
    server = urlsplit(stack.admin_url)
    url = f"postgresql://{LOGIN}:{password}@{server.hostname}:{server.port}/{DATABASE}"
    if not (state_dir / KEYS_FILE).exists():
        _write(state_dir / KEYS_FILE, f"* first {base64.b64encode(os.urandom(32)).decode()}\n")
    (state_dir / URL_FILE).unlink(missing_ok=True)
    _write(state_dir / URL_FILE, url)
    return keys_environment(state_dir)


def keys_environment(state_dir: Path) -> dict[str, str]:
    """Returns the variables that name the key store of a state directory; empty if it has none."""
    files = {"KEY_STORE_URL_FILE": state_dir / URL_FILE, "TENANT_KEYS_FILE": state_dir / KEYS_FILE}
    return {name: str(path.resolve()) for name, path in files.items()} if files["KEY_STORE_URL_FILE"].exists() else {}


async def _make(admin_url: str, password: str) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        if not await connection.fetchval("SELECT FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
        if not await connection.fetchval("SELECT FROM pg_roles WHERE rolname = $1", LOGIN):
            await connection.execute(f"CREATE ROLE {LOGIN}")
        await connection.execute(f"ALTER ROLE {LOGIN} LOGIN PASSWORD '{password}'")  # hexadecimal
        await prepare(urlsplit(admin_url)._replace(path=f"/{DATABASE}").geturl())
        await connection.execute(f"GRANT footfall_keys TO {LOGIN}")
    finally:
        await connection.close()


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
