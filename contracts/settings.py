"""How to reach the brokers: the part of each process's settings that both ends of the topic share."""

import ssl
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.record import TOPIC


class KafkaSettings(BaseSettings):
    """Where Kafka is and how to speak to it; the defaults suit a broker on this machine."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    kafka_bootstrap_servers: str = Field(default="127.0.0.1:9092", description="Brokers, host:port, comma separated.")
    kafka_topic: str = Field(default=TOPIC, description="Topic of the events.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Protocol for the connections to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="SASL mechanism; used with a SASL protocol."
    )
    kafka_sasl_username: str = Field(default="", description="SASL user name; used with a SASL protocol.")
    kafka_sasl_password: SecretStr = Field(
        default=SecretStr(""), description="SASL password; used with a SASL protocol."
    )

    def client_options(self) -> dict[str, Any]:
        """The keyword arguments that every Kafka client of Footfall is made with."""
        protocol = self.kafka_security_protocol
        return {
            "bootstrap_servers": self.kafka_bootstrap_servers,
            "security_protocol": protocol,
            "ssl_context": ssl.create_default_context() if protocol in ("SSL", "SASL_SSL") else None,
            "sasl_mechanism": self.kafka_sasl_mechanism,
            "sasl_plain_username": self.kafka_sasl_username or None,
            "sasl_plain_password": self.kafka_sasl_password.get_secret_value() or None,
        }
