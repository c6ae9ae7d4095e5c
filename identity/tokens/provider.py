"""Asks the provider for its keys over HTTP: bounded in time and size, without redirects, with https."""

import asyncio
import ssl
from pathlib import Path

import httpx

from identity.tokens.settings import is_secure
from identity.tokens.strict_json import decode_object

DISCOVERY = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0, 4
TIMEOUT = 5.0  # seconds for one document, from the connection to its last byte
MAX_BYTES = 131_072  # of one document
HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "footfall"}


class ProviderError(Exception):
    """The provider did not give what was asked for. The text holds nothing of its answer."""


class Provider:
    """The issuer of tokens, as a server."""

    def __init__(self, issuer: str, jwks_url: str, ca_file: Path | None = None) -> None:
        """`jwks_url`: empty to ask the issuer where it is."""
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._ca_file = ca_file

    async def key_set(self) -> bytes:
        """The JWK Set, as it came. Raises ProviderError."""
        try:
            trusted = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)  # reads 200 KB
            async with httpx.AsyncClient(verify=trusted, follow_redirects=False, timeout=TIMEOUT) as client:
                return await _document(client, self._jwks_url or await self._discovered(client))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise ProviderError(f"it cannot be reached ({type(error).__name__})") from error

    async def _discovered(self, client: httpx.AsyncClient) -> str:
        text = await _document(client, self._issuer.rstrip("/") + DISCOVERY)
        try:
            found = decode_object(text)
        except ValueError as error:
            raise ProviderError("its configuration is malformed") from error
        url = found.get("jwks_uri")
        if found.get("issuer") != self._issuer:
            raise ProviderError("its configuration is of another issuer than OIDC_ISSUER")
        if not isinstance(url, str) or not is_secure(url):
            raise ProviderError("its configuration names no https address of keys")
        return url


async def _document(client: httpx.AsyncClient, url: str) -> bytes:
    text = bytearray()
    async with asyncio.timeout(TIMEOUT), client.stream("GET", url, headers=HEADERS) as answer:
        if answer.status_code != 200:
            raise ProviderError(f"it answered {answer.status_code}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise ProviderError("its answer is compressed, which nobody asked for")
        async for piece in answer.aiter_raw():
            text += piece
            if len(text) > MAX_BYTES:
                raise ProviderError(f"its answer is larger than {MAX_BYTES} bytes")
    return bytes(text)
