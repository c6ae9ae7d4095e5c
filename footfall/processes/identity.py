"""Makes the policy that learns who asks, from the settings of the process; exits when it may not start so."""

from contracts.event import DEFAULT_TENANT
from footfall.processes.environment import environment_name, exit_with, load_settings
from identity.settings import IdentitySettings
from web.policies.decisions import RequestPolicy
from web.policies.identity import Identity
from web.policies.principal import OpenDoor

OPEN_IN_PRODUCTION = "AUTH: is `open`, and ENVIRONMENT=production does not start open to everybody"
TOKENS_AT_AN_OPEN_DOOR = "OIDC_ISSUER: is set, but AUTH is `open`, so nobody would be asked for a token"


def load_identity() -> RequestPolicy:
    """Reads `IdentitySettings`. Exits 1 with a sentence for what would be open unawares."""
    settings = load_settings(IdentitySettings)
    if settings.auth != "open":
        return _with_tokens(settings) if settings.oidc_issuer else Identity([])
    if settings.oidc_issuer:
        exit_with([TOKENS_AT_AN_OPEN_DOOR])
    if environment_name() == "production":
        exit_with([OPEN_IN_PRODUCTION])
    return OpenDoor(DEFAULT_TENANT)


def _with_tokens(settings: IdentitySettings) -> Identity:
    from identity.tokens.authenticator import TokenAuthenticator  # noqa: PLC0415 - with httpx and joserfc, 0.3 s
    from identity.tokens.tokens import tokens_of  # noqa: PLC0415

    tokens = tokens_of(settings)
    return Identity([TokenAuthenticator(tokens)], {"tokens": tokens.keys.state})
