"""Finds out why brokers cannot be used, where aiokafka only says "Unable to bootstrap".

It opens one more connection to each bootstrap server and reads what goes wrong there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from brokers.port_language import speaks_plaintext, speaks_tls
from brokers.troubles import HUNG_UP, PASSING, REFUSED_TOKEN, WANTS_SASL, Explained, Trouble, told

Found = TypeVar("Found")

PATIENCE = 2.0  # seconds for one step with one broker
CLOSE_TIMEOUT = 0.5  # seconds
TLS, SASL = ("SSL", "SASL_SSL"), ("SASL_PLAINTEXT", "SASL_SSL")
ORDER = list(Trouble)


class Diagnosis(msgspec.Struct, frozen=True):
    """What is wrong with a broker, as a sentence that names its address and holds no secret."""

    trouble: Trouble
    sentence: str


class BrokersUnusableError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka is untyped
    """No broker could be used; the text says why."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.sentence)
        self.diagnosis = diagnosis

    def __str__(self) -> str:
        return self.diagnosis.sentence


async def with_reason(client_options: Mapping[str, Any], connect: Callable[[], Awaitable[Found]]) -> Found:
    """Awaits `connect`. Raises BrokersUnusableError, which says why, instead of a bare KafkaConnectionError.

    aiokafka 0.14 does not notice that a token was refused, and would hang later. So a token is tried first.
    """
    if client_options["sasl_oauth_token_provider"] is not None:
        tried = await diagnose(client_options)
        if tried.trouble is not Trouble.ANSWERS:
            raise BrokersUnusableError(tried)
    try:
        return await connect()
    except BrokersUnusableError:
        raise
    except KafkaConnectionError:
        raise BrokersUnusableError(await diagnose(client_options)) from None


async def diagnose(client_options: Mapping[str, Any]) -> Diagnosis:
    """Asks every bootstrap server, and returns the diagnosis that says most; ANSWERS: one of them can be used."""
    hosts = collect_hosts(client_options["bootstrap_servers"])
    found = await asyncio.gather(*(_diagnose_one(host, port, client_options) for host, port, _ in hosts))
    useful = [each for each in found if each.trouble is Trouble.ANSWERS]
    return useful[0] if useful else max(found, key=lambda each: ORDER.index(each.trouble))


async def _diagnose_one(host: str, port: int, options: Mapping[str, Any]) -> Diagnosis:
    trouble, sentence = await _tried(host, port, options)
    if trouble in (Trouble.HUNG_UP, Trouble.SILENT):
        trouble, sentence = await _in_the_other_language(host, port, options, (trouble, sentence))
    return Diagnosis(trouble, f"Kafka at {address_of(host, port)}: {sentence}")


def address_of(host: str, port: int) -> str:
    """A broker's address as KAFKA_BOOTSTRAP_SERVERS has it: an IPv6 address stands in brackets before its port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _tried(host: str, port: int, options: Mapping[str, Any]) -> Explained:
    """Connects, signs in and asks for the brokers, as every client does first."""
    named = {name: value for name, value in options.items() if name not in ("bootstrap_servers", "client_id")}
    limit, signs_in, connected = int(PATIENCE * 1000), options["security_protocol"] in SASL, False
    connection = AIOKafkaConnection(host, port, client_id="footfall-diagnosis", request_timeout_ms=limit, **named)
    try:
        async with asyncio.timeout(PATIENCE):
            await connection.connect()
        connected = True
        answer = await connection.send(MetadataRequest([]))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what is asked for
        reason = told(error, options)
        return WANTS_SASL if reason == HUNG_UP and connected and not signs_in else reason
    finally:
        await _closed(connection)
    # To a client whose token it has refused, Kafka answers with an empty error.
    return (Trouble.ANSWERS, "it answers") if answer.brokers or not signs_in else REFUSED_TOKEN


async def _closed(connection: AIOKafkaConnection) -> None:
    """Closes the connection, and waits until its socket is closed, too."""
    closed = connection.close()
    if connection._protocol is not None:  # noqa: SLF001 - None: there never was a socket
        await asyncio.wait({closed}, timeout=CLOSE_TIMEOUT)


async def _in_the_other_language(host: str, port: int, options: Mapping[str, Any], reason: Explained) -> Explained:
    protocol = options["security_protocol"]
    if protocol in TLS and await speaks_plaintext(host, port):
        return Trouble.SPEAKS_PLAINTEXT, (
            f"this port speaks no TLS, and KAFKA_SECURITY_PROTOCOL is {protocol}: use the port of the TLS listener"
        )
    if protocol not in TLS and await speaks_tls(host, port):
        return Trouble.SPEAKS_TLS, (
            f"this port speaks TLS, and KAFKA_SECURITY_PROTOCOL is {protocol}: set it to SSL or SASL_SSL"
        )
    return reason


class WhyAway:
    """Says in health why no broker can be used. It asks at most once in `every` seconds."""

    def __init__(self, client_options: Callable[[], Mapping[str, Any]], every: float = 2.0) -> None:
        self._options, self._every = client_options, every
        self._asked_at, self._said = float("-inf"), ""
        self._asking = asyncio.Lock()

    async def said(self) -> str:
        """Returns a sentence, or nothing when the brokers are only away, which health says already."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= self._every:
                self._said = await self._ask()
                self._asked_at = time.monotonic()
            return self._said

    async def _ask(self) -> str:
        try:
            async with asyncio.timeout(PATIENCE / 2):  # health itself waits no longer than that
                found = await diagnose(self._options())
        except TimeoutError:
            return ""
        return "" if found.trouble in PASSING else found.sentence
