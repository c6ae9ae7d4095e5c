"""Makes what learns who asks, from the settings of the process; exits when it may not start so."""

import asyncio
from collections.abc import Callable, Collection, Sequence

import msgspec

from contracts.event import DEFAULT_TENANT
from footfall.processes.environment import environment_name, exit_with, load_settings
from identity.certificates.authenticator import CertificateAuthenticator
from identity.certificates.clients import ClientsFile, ClientsFileError
from identity.key_side import KeySide
from identity.keys.authenticator import KeyAuthenticator
from identity.keys.looking_on import OperatorsLookOn
from identity.keys.reader import RegisterReader
from identity.keys.topic import ensure_topic
from identity.keys.uses import KeyUses
from identity.settings import IdentitySettings, KeySettings
from telemetry.health import Probe
from web.policies.browsers import Browsers
from web.policies.decisions import RequestPolicy
from web.policies.hosts import is_loopback
from web.policies.identity import Authenticator, Identity
from web.policies.principal import OpenDoor
from web.policies.trusted_proxies import TrustedProxies
from web.transport.settings import TlsSettings

OPEN_IN_PRODUCTION = "AUTH: is `open`, and ENVIRONMENT=production does not start open to everybody"
TOKENS_UNASKED = "OIDC_ISSUER: is set, but AUTH does not name `tokens`, so nobody would be asked for one"
TOKENS_OF_NOBODY = "AUTH: names `tokens`, but OIDC_ISSUER is not set"

CERTIFICATES_OF_NOBODY = "AUTH: names `certificates`, but CLIENT_CERTIFICATES_FILE is not set"
CERTIFICATES_UNASKED = (
    "AUTH: names `certificates`, but no client is asked for one: set TLS_CLIENT_CA_FILE, or CLIENT_CERTIFICATE_HEADER"
)
HEADER_OF_NOBODY = "CLIENT_CERTIFICATE_HEADER: is set, but nobody is believed: TRUSTED_PROXIES is not set"

NO_ORIGINS: frozenset[bytes] = frozenset()
Origins = Callable[[], frozenset[bytes]]


class Door(msgspec.Struct, frozen=True):
    """The identity of one process.

    `proxies`: the policy that finds a client's address behind them, if any. `first`: the policies behind it and before
    identity. `sides`: what has to run for it.
    """

    policy: RequestPolicy
    proxies: Sequence[RequestPolicy] = ()
    first: Sequence[RequestPolicy] = ()
    sides: Sequence[KeySide] = ()

    def is_open(self) -> bool:
        """Whether everybody gets in, as one principal."""
        return isinstance(self.policy, OpenDoor)


def load_identity(host: str, looking_on: Collection[str] = ()) -> Door:
    """Reads the settings of the door. Exits 1 with a sentence for what would be open unawares.

    Args:
        host: The address that the process listens on.
        looking_on: See `OperatorsLookOn`; empty: nobody looks on while keys cannot be checked.
    """
    settings = load_settings(IdentitySettings)
    problem = problem_of(settings)
    if problem:
        exit_with([problem])
    if settings.auth == "open":
        return Door(OpenDoor(DEFAULT_TENANT), proxies_of(settings), [browsers_of(settings, host, lambda: NO_ORIGINS)])
    authenticators: list[Authenticator] = []
    probes: dict[str, Probe] = {}
    sides = []
    origins: Origins = lambda: NO_ORIGINS  # noqa: E731
    if settings.takes_keys():
        reader = reader_of(load_settings(KeySettings))
        origins = reader.origins
        uses = KeyUses()
        keys = KeyAuthenticator(reader.register, uses)
        authenticators.append(OperatorsLookOn(keys, reader, looking_on) if looking_on else keys)
        sides.append(KeySide(reader, uses))
    if settings.takes_tokens():
        authenticators.append(_token_authenticator(settings, probes))
    if settings.takes_certificates():
        authenticators.append(_certificate_authenticator(settings, probes))
    browsers = browsers_of(settings, host, origins)
    return Door(Identity(authenticators, probes), proxies_of(settings), [browsers], sides)


def proxies_of(settings: IdentitySettings) -> list[RequestPolicy]:
    """The policy that finds a client's address behind trusted proxies, if there are any."""
    proxies = settings.proxies()
    return [TrustedProxies(proxies, settings.client_certificate_header)] if proxies else []


def browsers_of(settings: IdentitySettings, host: str, origins: Origins) -> Browsers:
    """What pages in browsers may ask for. `origins`: those of public keys, as they are known now."""
    hosts = settings.hosts()
    known = [*hosts, host.lower()] if hosts or is_loopback(host) else None
    of_setting = frozenset(each.encode() for each in settings.origins())
    return Browsers(
        known,
        (lambda: of_setting | origins()) if of_setting else origins,
        any_origin=settings.cors_origins.strip() == "*",
    )


def problem_of(settings: IdentitySettings) -> str:
    """Why a process does not start with these settings; empty if it does."""
    if settings.oidc_issuer and not settings.takes_tokens():
        return TOKENS_UNASKED
    if settings.takes_tokens() and not settings.oidc_issuer:
        return TOKENS_OF_NOBODY
    if settings.client_certificate_header and not settings.proxies():
        return HEADER_OF_NOBODY
    if settings.takes_certificates():
        if settings.client_certificates_file is None:
            return CERTIFICATES_OF_NOBODY
        if not settings.client_certificate_header and load_settings(TlsSettings).tls_client_ca_file is None:
            return CERTIFICATES_UNASKED
    return OPEN_IN_PRODUCTION if settings.auth == "open" and environment_name() == "production" else ""


def _token_authenticator(settings: IdentitySettings, probes: dict[str, Probe]) -> Authenticator:
    from identity.tokens.authenticator import TokenAuthenticator  # noqa: PLC0415 - with httpx and joserfc, 0.3 s
    from identity.tokens.tokens import tokens_of  # noqa: PLC0415

    tokens = tokens_of(settings)
    probes["tokens"] = tokens.keys.state
    return TokenAuthenticator(tokens)


def _certificate_authenticator(settings: IdentitySettings, probes: dict[str, Probe]) -> Authenticator:
    assert settings.client_certificates_file is not None  # see `problem_of`
    try:
        clients = ClientsFile(settings.client_certificates_file)
    except ClientsFileError as error:
        exit_with([f"CLIENT_CERTIFICATES_FILE: {error}"])
    probes["certificates"] = clients.state
    return CertificateAuthenticator(clients.current)


def make_keys_topic(**overrides: object) -> str | None:
    """Makes the topic of the register if AUTH takes keys and it is missing.

    Args:
        overrides: Of `KeySettings`.

    Returns:
        Its name; None if AUTH takes no keys.

    Raises:
        KafkaError: No broker answers, or it refuses.
        WrongTopicError: The topic is there and would lose keys.
    """
    if not load_settings(IdentitySettings).takes_keys():
        return None
    settings = load_settings(KeySettings, **overrides)
    asyncio.run(ensure_topic(settings.client_options(), settings.kafka_keys_topic, settings.kafka_replication_factor))
    return settings.kafka_keys_topic


def reader_of(settings: KeySettings) -> RegisterReader:
    """The reader of the register that this process keeps."""
    return RegisterReader(
        settings.client_options(), settings.kafka_keys_topic, stale_after=settings.keys_stale_ms / 1000
    )
