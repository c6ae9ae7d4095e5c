"""What the command side reads from the environment, once."""

from typing import Literal

from pydantic import Field

from brokers.registry.settings import WireSettings
from brokers.settings import AuditTopicSettings
from web.serving_settings import ServingSettings

Compression = Literal["gzip", "zstd", "lz4", "snappy", "none"]


class CommandSettings(AuditTopicSettings, WireSettings, ServingSettings):
    """Settings of one command-side process. Every default is the safe one."""

    port: int = Field(default=3001, ge=0, le=65_535, description="Port to listen on.")
    kafka_compression: Compression = Field(
        default="gzip",
        description="Compression of record batches. Unset with PRIVACY=sealed: `zstd`, which costs a tenth of the CPU"
        " there.",
    )
    publish_timeout_ms: int = Field(
        default=30_000,
        ge=100,
        le=300_000,
        description="Time limit for Kafka's answer to a command, ms; then the answer is 503.",
    )
    publish_retries: int = Field(default=3, ge=0, le=10, description="Retries of a produce round that Kafka refused.")
    publish_max_pending: int = Field(
        default=10_000, ge=1, description="Commands that may wait for Kafka at the same time; more are answered 503."
    )
    max_body_bytes: int = Field(default=65_536, ge=256, le=1_048_576, description="Largest request body, bytes.")
    batch_max_body_bytes: int = Field(
        default=1_048_576, ge=256, le=16_777_216, description="Largest request body of a batch, bytes."
    )
    body_timeout_ms: int = Field(default=10_000, ge=100, description="Time limit for receiving a request body, ms.")
    max_requests_in_flight: int = Field(
        default=512, ge=1, description="POST requests in flight; more are answered 503 before their body is read."
    )
    max_bytes_in_flight: int = Field(
        default=33_554_432, ge=1, description="Bytes of request bodies in flight; more are answered 503."
    )
    idempotency_window_ms: int = Field(
        default=600_000, ge=0, description="Time for which a process remembers an idempotency key, ms."
    )
    idempotency_memory_bytes: int = Field(
        default=33_554_432, ge=0, description="Memory for idempotency keys, bytes; the oldest are forgotten first."
    )
    quota_events: int = Field(
        default=0, ge=0, description="Events that one tenant may store in a day (UTC) at one process; 0: no quota."
    )
    quota_bytes: int = Field(
        default=0,
        ge=0,
        description="Bytes of events that one tenant may store in a day (UTC) at one process; 0: no quota.",
    )
