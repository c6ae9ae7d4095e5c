"""The tenant keys: they wrap every other key, and are themselves nowhere but in a file or a key management service.

One key a line: tenant, key id, 32 bytes in base64. `*` is every tenant; of such a key each tenant has its own, derived
by HKDF (RFC 5869). The last line of a tenant wraps new keys, and of one without a line the last of `*`; the others
still unwrap old ones.
"""

import base64
import binascii
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealing.cipher import KEY_BYTES, NONCE_BYTES
from sealing.errors import WrongTenantKeysError

EVERY_TENANT = "*"
COMMAND_TIMEOUT = 30.0  # seconds
FORM = "`TENANT KEY-ID BASE64`, where TENANT may be `*` and BASE64 is 32 random bytes (`openssl rand -base64 32`)"

_is_tenant = re.compile(r"\*|[A-Za-z0-9._-]{1,64}").fullmatch
_is_key_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Wrapped(NamedTuple):
    """A key as the key store has it, and the id of the tenant key that unwraps it."""

    key_id: str
    text: bytes


class TenantKeys:
    """The tenant keys of a process."""

    def __init__(self, keys: Mapping[str, dict[str, bytes]]) -> None:
        """`keys`: by tenant and key id, the newest last."""
        self._keys = keys
        self._ciphers: dict[tuple[str, str], AESGCM] = {}

    def newest(self, tenant_id: str) -> str:
        """The id of the key that wraps what is new. Raises WrongTenantKeysError."""
        return list(self._of(tenant_id))[-1]

    def wrap(self, tenant_id: str, purpose: str, key: bytes) -> Wrapped:
        """The key wrapped by the tenant's newest key. `purpose`: what it is for, authenticated."""
        key_id = self.newest(tenant_id)
        nonce = os.urandom(NONCE_BYTES)
        return Wrapped(key_id, nonce + self._cipher(tenant_id, key_id).encrypt(nonce, key, _bound(tenant_id, purpose)))

    def unwrap(self, tenant_id: str, purpose: str, wrapped: Wrapped) -> bytes:
        """The key. Raises WrongTenantKeysError."""
        if wrapped.key_id not in self._of(tenant_id):
            raise WrongTenantKeysError(
                f"The key store has keys of tenant {tenant_id} that the tenant key `{wrapped.key_id}` wraps, and"
                " TENANT_KEYS has no such key: add its line again."
            )
        try:
            return self._cipher(tenant_id, wrapped.key_id).decrypt(
                wrapped.text[:NONCE_BYTES], wrapped.text[NONCE_BYTES:], _bound(tenant_id, purpose)
            )
        except InvalidTag:
            raise WrongTenantKeysError(
                f"The tenant key `{wrapped.key_id}` of tenant {tenant_id} in TENANT_KEYS is not the one that this key"
                " store was made with: give the right file, or the right KEY_STORE_URL."
            ) from None

    def _of(self, tenant_id: str) -> Mapping[str, bytes]:
        own = self._keys.get(tenant_id, {})
        found = {key_id: key for key_id, key in self._keys.get(EVERY_TENANT, {}).items() if key_id not in own} | own
        if not found:
            raise WrongTenantKeysError(f"TENANT_KEYS has no key for tenant {tenant_id}, and none for `*`.")
        return found

    def _cipher(self, tenant_id: str, key_id: str) -> AESGCM:
        known = self._ciphers.get((tenant_id, key_id))
        if known is None:
            key = self._of(tenant_id)[key_id]
            derived = HKDF(SHA256(), KEY_BYTES, None, b"footfall tenant key\0" + tenant_id.encode()).derive(key)
            known = self._ciphers[tenant_id, key_id] = AESGCM(derived)
        return known


def _bound(tenant_id: str, purpose: str) -> bytes:
    return f"{tenant_id}\0{purpose}".encode()


def parse_tenant_keys(text: str) -> TenantKeys:
    """Reads the lines. Raises ValueError, which names a line and quotes nothing of it."""
    keys: dict[str, dict[str, bytes]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        if len(fields) != 3 or not (_is_tenant(fields[0]) and _is_key_id(fields[1])):
            raise ValueError(f"line {number} is not {FORM}")
        tenant_id, key_id, encoded = fields
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key in line {number} is not {KEY_BYTES} bytes in base64")
        if key_id in keys.setdefault(tenant_id, {}):
            raise ValueError(f"line {number} repeats a key id of its tenant")
        keys[tenant_id][key_id] = key
    if not keys:
        raise ValueError(f"it has no line that is {FORM}")
    return TenantKeys(keys)


def output_of(command: str) -> str:
    """What a command of a key management service prints: the lines. Raises ValueError, which quotes no output."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, timeout=COMMAND_TIMEOUT, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"the command cannot be run: {type(error).__name__}") from None
    if done.returncode:
        raise ValueError(f"the command failed with exit code {done.returncode}")
    try:
        return done.stdout.decode()
    except UnicodeDecodeError:
        raise ValueError("the command prints no UTF-8") from None
