"""Access tokens for BigQuery: of a service account's key file, or of the machine's own account in Google's cloud."""

import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey

from sinks.target import TargetAwayError, TargetRefusesError

SCOPE = "https://www.googleapis.com/auth/bigquery"
METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523
LIFETIME = 3_600  # seconds of an assertion
EARLY = 300.0  # seconds before its end, a token is renewed
TIMEOUT = 10.0  # seconds


class Tokens:
    """The token of now, renewed before its end."""

    def __init__(self, key_file: Path | None) -> None:
        """`key_file`: of a service account; None: the machine's own account."""
        self._key_file = key_file
        self._token, self._until = "", 0.0

    async def token(self) -> str:
        """Returns a token that is valid for some minutes. Raises OutsideError."""
        if time.monotonic() >= self._until:
            self._token, lifetime = await self._asked()
            self._until = time.monotonic() + lifetime - EARLY
        return self._token

    def forget(self) -> None:
        """Has the next caller ask for another: this one was refused."""
        self._until = 0.0

    async def _asked(self) -> tuple[str, float]:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
                answer = await (self._by_key(client) if self._key_file else self._by_machine(client))
        except (httpx.HTTPError, OSError) as error:
            raise TargetAwayError(f"No access token can be got: {type(error).__name__}") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise TargetAwayError(f"No access token can be got now: {answer.status_code}")
        if answer.status_code != 200:
            raise TargetRefusesError(f"No access token is given: {answer.status_code}")
        told: dict[str, Any] = msgspec.json.decode(answer.content)
        return str(told["access_token"]), float(told["expires_in"])

    async def _by_machine(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(METADATA, headers={"Metadata-Flavor": "Google"})

    async def _by_key(self, client: httpx.AsyncClient) -> httpx.Response:
        assert self._key_file is not None
        key: dict[str, str] = msgspec.json.decode(self._key_file.read_bytes())  # read each time: it may be rotated
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": key["client_email"],
            "aud": key["token_uri"],
            "iat": now,
            "exp": now + LIFETIME,
        }
        header = {"alg": "RS256", "kid": key["private_key_id"]}
        assertion = jwt.encode(header, {**claims, "scope": SCOPE}, RSAKey.import_key(key["private_key"]))
        return await client.post(key["token_uri"], data={"grant_type": GRANT, "assertion": assertion})
