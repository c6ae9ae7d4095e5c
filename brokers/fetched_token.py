"""A token for SASL OAUTHBEARER from an OAuth 2.0 endpoint, by client credentials (RFC 6749, 4.4)."""

import time
from urllib.parse import quote_plus

import httpx
import msgspec
from aiokafka.abc import AbstractTokenProvider

from brokers.credentials import LARGEST, TokenEndpoint, TokenUnavailableError, password_now
from brokers.tls import TlsError, TlsFiles, client_context

TIMEOUT = 5.0  # seconds for the endpoint's answer
USED_UP = 0.8  # of a token's life; then a new one is fetched, and the old one is kept as long as none comes
UNSAID_LIFE = 60.0  # seconds; of a token whose endpoint does not say how long it lives


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float = UNSAID_LIFE


class FetchedToken(AbstractTokenProvider):  # type: ignore[misc]
    """A token that is fetched when there is none, and again when most of its life is over."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint
        self._token = ""
        self._renew_at = self._ends_at = 0.0  # monotonic seconds

    async def token(self) -> str:
        """Returns a token that is valid now. Raises TokenUnavailableError."""
        if time.monotonic() >= self._renew_at:
            try:
                await self._fetch()
            except TokenUnavailableError:
                if time.monotonic() >= self._ends_at:
                    raise
        return self._token

    async def _fetch(self) -> None:
        endpoint, began = self._endpoint, time.monotonic()
        secret = password_now(endpoint.client_secret) or ""
        login = (quote_plus(endpoint.client_id), quote_plus(secret))  # RFC 6749, 2.3.1
        form = {"grant_type": "client_credentials", **({"scope": endpoint.scope} if endpoint.scope else {})}
        try:
            context = client_context(TlsFiles(endpoint.authorities))
            async with httpx.AsyncClient(timeout=TIMEOUT, verify=context, trust_env=False) as client:
                answer = await client.post(endpoint.url, data=form, auth=login)
        except (httpx.HTTPError, httpx.InvalidURL, TlsError) as error:
            raise TokenUnavailableError(f"the token endpoint cannot be used: {type(error).__name__}") from None
        granted = _granted(answer)
        self._token = granted.access_token
        self._renew_at, self._ends_at = began + granted.expires_in * USED_UP, began + granted.expires_in


def _granted(answer: httpx.Response) -> _Granted:
    if not answer.is_success:
        raise TokenUnavailableError(f"the token endpoint answered {answer.status_code}: look at the client's secret")
    try:
        granted = msgspec.json.decode(answer.content, type=_Granted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        granted = _Granted("")
    if not granted.access_token or len(answer.content) > LARGEST:
        raise TokenUnavailableError("the token endpoint answered without a token")
    return granted
