"""What the query side reads from the environment, once."""

from pydantic import Field, SecretStr, field_validator

from read_model.connecting.database_url import DatabaseUrlSetting, OptionalDatabaseUrlSetting
from web.policies.limits.settings import of_valkey
from web.serving_settings import ServingSettings
from web.tenants.position_tokens import checked_secret


class QuerySettings(ServingSettings):
    """Settings of one query-side process. Every default is the safe one."""

    port: int = Field(default=3002, ge=0, le=65_535, description="Port to listen on.")
    database_url: DatabaseUrlSetting = Field(
        description="PostgreSQL URL of a role that is a member of footfall_reader."
    )
    replica_database_url: OptionalDatabaseUrlSetting = Field(
        default=SecretStr(""),
        description="PostgreSQL URL of a replica to read from; DATABASE_URL, the primary, then only notifies.",
    )
    kafka_topic: str = Field(default="user-activity-events", description="Topic of the events.")
    query_pool_size: int = Field(
        default=10, ge=2, le=100, description="Database connections for queries; each export uses one more."
    )
    query_timeout_ms: int = Field(default=5_000, ge=10, description="Time limit of a single query, ms.")
    cache_url: SecretStr = Field(
        default=SecretStr(""),
        description="Valkey or Redis that keeps answers of /products/top and /activity/hourly (`valkeys://..`: with "
        "TLS); empty: each is computed.",
    )
    cache_max_age_ms: int = Field(
        default=5_000,
        ge=100,
        le=60_000,
        description="How old a kept answer may be, ms; one to a query with a position has always seen that position.",
    )
    max_exports: int = Field(
        default=4, ge=1, description="Exports that may run at the same time; more are answered 503."
    )
    export_timeout_ms: int = Field(
        default=600_000, ge=1_000, description="Time limit of an export, ms; then it is cut off."
    )
    export_least_bytes: int = Field(
        default=655_360,
        ge=0,
        description="A client that reads fewer bytes of an export within EXPORT_PACE_MS is cut off.",
    )
    export_pace_ms: int = Field(
        default=10_000, ge=100, description="Time in which a client must read EXPORT_LEAST_BYTES of an export, ms."
    )
    max_waiting_bytes: int = Field(
        default=33_554_432,
        ge=1,
        description="Bytes of pages that wait for their clients to read them; more are answered 503.",
    )
    cursor_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Key that signs cursors, at least 16 characters; empty: the key in the database.",
    )
    cursor_secret_also: SecretStr = Field(
        default=SecretStr(""),
        description="Another key whose cursors are accepted, too, while CURSOR_SECRET is changed; empty: none.",
    )
    position_secret_also: SecretStr = Field(
        default=SecretStr(""),
        description="Another key whose positions are accepted, too, while POSITION_SECRET is changed; empty: none.",
    )
    max_streams: int = Field(
        default=2_000,
        ge=1,
        description="Clients that may follow the live stream at the same time; more are answered 503.",
    )
    stream_heartbeat_ms: int = Field(
        default=15_000, ge=100, description="Interval of heartbeats on an idle stream, ms."
    )

    @field_validator("cursor_secret", "cursor_secret_also", "position_secret_also")
    @classmethod
    def _cannot_be_guessed(cls, secret: SecretStr) -> SecretStr:
        checked_secret(secret.get_secret_value())
        return secret

    @field_validator("cache_url")
    @classmethod
    def _is_of_valkey(cls, url: SecretStr) -> SecretStr:
        return of_valkey(url)

    def reading_url(self) -> SecretStr:
        """Where queries read."""
        return self.replica_database_url if self.on_replica() else self.database_url

    def on_replica(self) -> bool:
        """Whether that is another server than the one that notifies."""
        return bool(self.replica_database_url.get_secret_value())
