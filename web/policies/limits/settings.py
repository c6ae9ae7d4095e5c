"""What a process reads from the environment about limits, once."""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SCHEMES = ("valkey://", "valkeys://", "redis://", "rediss://", "unix://")


class LimitSettings(BaseSettings):
    """Settings of limits. 0 is no limit, which is the default: how much is too much, only the operator knows."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    limit_address: int = Field(
        default=0, ge=0, description="Units that one address may use in LIMIT_WINDOW_MS at one process; 0: no limit."
    )
    limit_subject: int = Field(
        default=0, ge=0, description="Units that one key or token subject may use in LIMIT_WINDOW_MS; 0: no limit."
    )
    limit_tenant: int = Field(
        default=0, ge=0, description="Units that one tenant may use in LIMIT_WINDOW_MS; 0: no limit."
    )
    limit_window_ms: int = Field(
        default=60_000, ge=1_000, le=86_400_000, description="Time in which the units of a limit are given back, ms."
    )
    limit_valkey_url: SecretStr = Field(
        default=SecretStr(""),
        description="Valkey or Redis by which processes share the limits that are set (`valkeys://..`: with TLS); "
        "empty: each process counts for itself.",
    )
    public_keys_percent: int = Field(
        default=50,
        ge=1,
        le=100,
        description="Part of LIMIT_TENANT, QUOTA_EVENTS and QUOTA_BYTES that all public keys of a tenant together may "
        "use, percent.",
    )
    principal_share_percent: int = Field(
        default=50,
        ge=1,
        le=100,
        description="Part of the connections, commands in flight, exports, streams and waiting reads of a process that "
        "one key or token subject may hold, percent.",
    )
    max_connections_per_address: int = Field(
        default=0, ge=0, description="Open connections of one address at one process; 0: as many as of all addresses."
    )

    @field_validator("limit_valkey_url")
    @classmethod
    def _is_of_valkey(cls, url: SecretStr) -> SecretStr:
        return of_valkey(url)


def of_valkey(url: SecretStr) -> SecretStr:
    """The same URL. Raises ValueError, which does not quote it, if it cannot lead to a Valkey."""
    if url.get_secret_value() and not url.get_secret_value().startswith(SCHEMES):
        raise ValueError(f"must begin with one of {', '.join(SCHEMES)}")
    return url
