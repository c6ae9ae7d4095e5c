"""What each process reads from the environment about who may ask, once."""

from typing import Literal

from pydantic import Field

from brokers.settings import KafkaSettings
from identity.tokens.settings import TokenSettings

KEYS_TOPIC = "footfall-keys"


class IdentitySettings(TokenSettings):
    """Settings of the door of one process."""

    auth: Literal["open", "keys", "tokens", "keys,tokens"] = Field(
        default="open",
        description="Who may ask: everybody, or who has a key or token. ENVIRONMENT=production refuses to start open.",
    )

    def takes_keys(self) -> bool:
        """Whether a key opens the door."""
        return "keys" in self.auth.split(",")

    def takes_tokens(self) -> bool:
        """Whether an access token opens the door."""
        return "tokens" in self.auth.split(",")


class KeySettings(KafkaSettings):
    """Settings of who checks keys, which are read if AUTH names them, and of `footfall keys`."""

    kafka_keys_topic: str = Field(default=KEYS_TOPIC, description="Compacted topic of the register of keys.")
    kafka_replication_factor: int = Field(
        default=1, ge=1, le=10, description="Copies of each partition; 3 in production."
    )
    keys_stale_ms: int = Field(
        default=600_000,
        ge=5_000,
        le=86_400_000,
        description="Time without Kafka after which keys are refused, since revocations are not heard, ms.",
    )
