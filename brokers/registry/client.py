"""Asks a schema registry by Confluent's API, which Apicurio and Karapace speak, too (in Apicurio: /apis/ccompat/v7).

A client of its own, because Confluent's brings librdkafka with it, and seven requests are all that is asked.
https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

import asyncio
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from brokers.registry.errors import RegistryAwayError, RegistryRefusedError
from brokers.registry.settings import WireSettings
from brokers.tls import TlsError, TlsFiles, client_context

TIMEOUT = 5.0  # seconds without a byte of an answer
WHOLE = 10.0  # seconds for a whole answer: one that comes byte by byte would never end
LARGEST = 1_048_576  # bytes of an answer
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
TOLD = 300  # characters of what a registry says that are handed on


class Answer(NamedTuple):
    """What the registry answered: a status and, if it was a JSON object, its fields."""

    status: int
    fields: dict[str, Any]

    @property
    def told(self) -> str:
        """The status, and what the registry says of it."""
        message = self.fields.get("message")
        printable = "".join(each for each in str(message)[:TOLD] if each.isprintable()) if message else ""
        return f"{self.status}: {printable}" if printable else str(self.status)


class RegistryClient:
    """One registry. Each request has a connection of its own: there are few."""

    def __init__(self, settings: WireSettings) -> None:
        self.url = settings.schema_registry_url.rstrip("/")
        self._name, self._password = settings.schema_registry_username, settings.schema_registry_password
        self._files = TlsFiles(settings.schema_registry_ca_file)

    async def ask(self, method: str, *path: str, body: object = None) -> Answer:
        """Sends a request. Raises RegistryAwayError, and RegistryRefusedError for a login that is not accepted."""
        target = "/".join((self.url, *(quote(part, safe="") for part in path)))
        content = None if body is None else msgspec.json.encode(body)
        try:
            login = (self._name, self._password.get_secret_value()) if self._name else None  # it may be in a new file
            verify = client_context(self._files) if self.url.startswith("https:") else True
            async with (
                asyncio.timeout(WHOLE),
                httpx.AsyncClient(timeout=TIMEOUT, verify=verify, auth=login, trust_env=False) as client,
                client.stream(
                    method, target, content=content, headers={"content-type": MEDIA_TYPE, "accept": MEDIA_TYPE}
                ) as response,
            ):
                answer = Answer(response.status_code, _fields(await _content(response)))
        except (httpx.HTTPError, httpx.InvalidURL, TlsError, OSError) as error:
            why = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
            raise RegistryAwayError(f"the schema registry at {self.url} cannot be used: {why}") from None
        if answer.status >= 500 or answer.status == 429:
            raise RegistryAwayError(f"the schema registry at {self.url} answered {answer.told}")
        if answer.status in (401, 403):
            raise RegistryRefusedError(
                f"The schema registry at {self.url} answered {answer.status}: look at SCHEMA_REGISTRY_USERNAME and "
                "SCHEMA_REGISTRY_PASSWORD, and what that user may do."
            )
        return answer


async def _content(response: httpx.Response) -> bytes:
    content = b""
    async for part in response.aiter_bytes():
        content += part
        if len(content) > LARGEST:
            raise httpx.DecodingError(f"it answered with more than {LARGEST} bytes")
    return content


def _fields(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
