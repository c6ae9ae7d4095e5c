"""What every process that serves requests reads from the environment, once."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from web.policies.limits.settings import LimitSettings
from web.tenants.position_tokens import DESCRIPTION as POSITION_SECRET
from web.tenants.position_tokens import checked_secret


class ServingSettings(LimitSettings):
    """Where a process listens, how long it waits for its servers, and what positions are sealed with."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    max_connections: int = Field(
        default=4_000,
        ge=1,
        description="Open connections of one process. For one more, the longest idle is closed, or 503.",
    )
    event_types_file: Path | None = Field(
        default=None, description="Catalogue of event types, a TOML file; unset: the one that Footfall is shipped with."
    )
    position_secret: SecretStr = Field(default=SecretStr(""), description=POSITION_SECRET)
    startup_timeout_ms: int = Field(
        default=60_000,
        ge=0,
        description="How long a starting process waits for a server that is away before it exits, ms; 0: not at all.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )

    @field_validator("position_secret")
    @classmethod
    def _position_secret_cannot_be_guessed(cls, secret: SecretStr) -> SecretStr:
        checked_secret(secret.get_secret_value())
        return secret
