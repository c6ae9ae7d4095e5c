"""What the command side reads from the environment, once."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.record import TOPIC

Compression = Literal["gzip", "zstd", "lz4", "snappy", "none"]


class CommandSettings(BaseSettings):
    """Settings of one command-side process. Every default is the safe one."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=3001, ge=0, le=65_535, description="Port to listen on.")
    kafka_bootstrap_servers: str = Field(
        default="127.0.0.1:9092", description="Kafka brokers, host:port, comma separated."
    )
    kafka_topic: str = Field(default=TOPIC, description="Topic of the events.")
    kafka_compression: Compression = Field(default="gzip", description="How batches of records are compressed.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="SASL mechanism, with a SASL protocol."
    )
    kafka_sasl_username: str = Field(default="", description="SASL user, with a SASL protocol.")
    kafka_sasl_password: SecretStr = Field(default=SecretStr(""), description="SASL password, with a SASL protocol.")
    publish_timeout_ms: int = Field(
        default=30_000, ge=100, le=300_000, description="An accepted command is answered within so long, ms."
    )
    publish_retries: int = Field(
        default=3, ge=0, le=10, description="Further tries of a produce round that Kafka refused."
    )
    publish_max_pending: int = Field(
        default=10_000, ge=1, description="Commands that may wait for Kafka at once; more are answered 503."
    )
    max_body_bytes: int = Field(default=65_536, ge=256, le=1_048_576, description="Largest request body, bytes.")
    body_timeout_ms: int = Field(
        default=10_000, ge=100, description="A request body must have arrived within so long, ms."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that is logged."
    )
