"""Makes the policy that learns who asks, from the settings of the process; exits when it may not start so."""

from contracts.event import DEFAULT_TENANT
from footfall.processes.environment import environment_name, exit_with, load_settings
from identity.settings import IdentitySettings
from web.policies.decisions import RequestPolicy
from web.policies.identity import Identity
from web.policies.principal import OpenDoor

OPEN_IN_PRODUCTION = "AUTH: is `open`, and ENVIRONMENT=production does not start open to everybody"


def load_identity() -> RequestPolicy:
    """Reads `IdentitySettings`. Exits 1 with a sentence for a production process that would be open."""
    settings = load_settings(IdentitySettings)
    if settings.auth != "open":
        return Identity([])
    if environment_name() == "production":
        exit_with([OPEN_IN_PRODUCTION])
    return OpenDoor(DEFAULT_TENANT)
