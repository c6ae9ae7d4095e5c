"""What every process that serves requests reads from the environment, once."""

from pydantic import Field, SecretStr, field_validator

from telemetry.settings import ListeningAddress, ProcessSettings
from web.policies.limits.settings import LimitSettings
from web.tenants.position_tokens import DESCRIPTION as POSITION_SECRET
from web.tenants.position_tokens import checked_secret


class ServingSettings(ProcessSettings, LimitSettings):
    """Where a process listens, and what positions are sealed with."""

    host: ListeningAddress = Field(
        default="127.0.0.1", description="Address to listen on; `::` is every address, of IPv6 and of IPv4."
    )
    max_connections: int = Field(
        default=4_000,
        ge=1,
        description="Open connections of one process. For one more, the longest idle is closed, or 503.",
    )
    position_secret: SecretStr = Field(default=SecretStr(""), description=POSITION_SECRET)

    @field_validator("position_secret")
    @classmethod
    def _position_secret_cannot_be_guessed(cls, secret: SecretStr) -> SecretStr:
        checked_secret(secret.get_secret_value())
        return secret
