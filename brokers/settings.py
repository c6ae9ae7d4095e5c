"""How to reach the brokers: the part of the settings that every process and command that speaks to Kafka shares."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from brokers.changed_aiokafka import change_connections
from brokers.credentials import Password, TokenEndpoint
from brokers.tls import TlsError, TlsFiles, client_context
from brokers.token_provider import token_provider
from contracts.record import AUDIT_TOPIC, TOPIC

SASL = ("SASL_PLAINTEXT", "SASL_SSL")
TLS = ("SSL", "SASL_SSL")
# A name, an IPv4 address, or an IPv6 address in brackets or without; aiokafka adds port 9092 where there is none.
is_broker = re.compile(r"(\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[\w.-]+)(:[0-9]{1,5})?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+").fullmatch
LOOPBACK = ("localhost", "127.0.0.1", "::1")

FileSetting = Annotated[Path | None, BeforeValidator(lambda value: value or None)]  # an empty variable is unset


class KafkaSettings(BaseSettings):
    """Where Kafka is and how to speak to it; the defaults suit a broker on this machine."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    kafka_bootstrap_servers: str = Field(default="127.0.0.1:9092", description="Brokers, host:port, comma separated.")
    kafka_topic: str = Field(default=TOPIC, description="Topic of the events.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Protocol for the connections to the brokers."
    )
    kafka_allow_plaintext: bool = Field(
        default=False, description="Whether ENVIRONMENT=production may speak to Kafka without TLS."
    )
    kafka_ssl_ca_file: FileSetting = Field(
        default=None, description="Certificates (PEM) that sign the brokers' certificates; unset: those of the system."
    )
    kafka_ssl_certificate_file: FileSetting = Field(
        default=None, description="Client certificate for Kafka with its chain (PEM); used with a TLS protocol."
    )
    kafka_ssl_key_file: FileSetting = Field(default=None, description="Private key of the client certificate (PEM).")
    kafka_ssl_key_password: SecretStr = Field(
        default=SecretStr(""), description="Passphrase of KAFKA_SSL_KEY_FILE; empty: the key is not encrypted."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="PLAIN", description="SASL mechanism; used with a SASL protocol."
    )
    kafka_sasl_username: str = Field(default="", description="SASL user name; used with PLAIN and SCRAM.")
    kafka_sasl_password: SecretStr = Field(
        default=SecretStr(""), description="SASL password; used with PLAIN and SCRAM."
    )
    kafka_sasl_token_file: FileSetting = Field(
        default=None, description="File with the token for OAUTHBEARER; it is read again for each connection."
    )
    kafka_sasl_token_url: str = Field(
        default="", description="Token endpoint for OAUTHBEARER (OAuth 2.0 client credentials), if no file is named."
    )
    kafka_sasl_client_id: str = Field(default="", description="Client id at KAFKA_SASL_TOKEN_URL.")
    kafka_sasl_client_secret: SecretStr = Field(
        default=SecretStr(""), description="Client secret at KAFKA_SASL_TOKEN_URL."
    )
    kafka_sasl_scope: str = Field(default="", description="Scope to ask for at KAFKA_SASL_TOKEN_URL.")
    kafka_sasl_token_ca_file: FileSetting = Field(
        default=None, description="Certificates (PEM) for KAFKA_SASL_TOKEN_URL; unset: those of the system."
    )

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_brokers(cls, text: str) -> str:
        wrong = [each for each in text.split(",") if not is_broker(each.strip())]
        if wrong:
            raise ValueError(f"{wrong[0].strip() or 'nothing'} is no broker: it is host:port, or [::1]:port of IPv6")
        return text

    @model_validator(mode="after")
    def _complete(self) -> Self:
        problems = [*self._sasl_problems(), *self._tls_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _sasl_problems(self) -> Iterator[str]:
        if self.kafka_security_protocol not in SASL:
            return
        if self.kafka_sasl_mechanism != "OAUTHBEARER":
            if not self.kafka_sasl_username:
                yield f"KAFKA_SASL_USERNAME is not set, and {self.kafka_sasl_mechanism} needs it"
            if not self.kafka_sasl_password.get_secret_value():
                yield f"KAFKA_SASL_PASSWORD is not set, and {self.kafka_sasl_mechanism} needs it"
            return
        url = urlsplit(self.kafka_sasl_token_url)
        if (self.kafka_sasl_token_file is None) == (not self.kafka_sasl_token_url):
            yield "OAUTHBEARER needs either KAFKA_SASL_TOKEN_FILE or KAFKA_SASL_TOKEN_URL"
        elif url.geturl() and url.scheme != "https" and url.hostname not in LOOPBACK:
            yield "KAFKA_SASL_TOKEN_URL does not begin with https://, and the client secret would be sent in the clear"
        elif url.geturl() and not (self.kafka_sasl_client_id and self.kafka_sasl_client_secret.get_secret_value()):
            yield "KAFKA_SASL_TOKEN_URL needs KAFKA_SASL_CLIENT_ID and KAFKA_SASL_CLIENT_SECRET"

    def _tls_problems(self) -> Iterator[str]:
        if self.kafka_security_protocol not in TLS:
            return
        if self.kafka_ssl_key_file is not None and self.kafka_ssl_certificate_file is None:
            yield "KAFKA_SSL_KEY_FILE is set, but not KAFKA_SSL_CERTIFICATE_FILE"
            return
        try:
            client_context(self._tls_files())
        except TlsError as error:
            yield str(error)

    def problems_in_production(self) -> list[str]:
        """What ENVIRONMENT=production refuses: a line for each problem."""
        if self.kafka_security_protocol in TLS or self.kafka_allow_plaintext:
            return []
        return [
            f"KAFKA_SECURITY_PROTOCOL: {self.kafka_security_protocol} sends every event"
            + (" and the password" if self.kafka_sasl_mechanism == "PLAIN" and self._has_sasl() else "")
            + " in the clear. Use SASL_SSL or SSL; in a network that nobody else can listen to, set "
            "KAFKA_ALLOW_PLAINTEXT=true"
        ]

    def _has_sasl(self) -> bool:
        return self.kafka_security_protocol in SASL

    def _tls_files(self) -> TlsFiles:
        return TlsFiles(
            self.kafka_ssl_ca_file,
            self.kafka_ssl_certificate_file,
            self.kafka_ssl_key_file,
            self.kafka_ssl_key_password.get_secret_value(),
        )

    def client_options(self) -> dict[str, Any]:
        """The keyword arguments that every Kafka client of Footfall is made with."""
        change_connections()
        bearer = self._has_sasl() and self.kafka_sasl_mechanism == "OAUTHBEARER"
        return {
            "bootstrap_servers": self.kafka_bootstrap_servers,
            "security_protocol": self.kafka_security_protocol,
            "ssl_context": client_context(self._tls_files()) if self.kafka_security_protocol in TLS else None,
            "sasl_mechanism": self.kafka_sasl_mechanism if self._has_sasl() else "PLAIN",
            "sasl_plain_username": self.kafka_sasl_username or None,
            "sasl_plain_password": Password(self.kafka_sasl_password) or None,
            "sasl_oauth_token_provider": self._token_provider() if bearer else None,
        }

    def _token_provider(self) -> Any:
        if self.kafka_sasl_token_file is not None:
            return token_provider(self.kafka_sasl_token_file)
        return token_provider(
            TokenEndpoint(
                self.kafka_sasl_token_url,
                self.kafka_sasl_client_id,
                Password(self.kafka_sasl_client_secret),
                self.kafka_sasl_scope,
                self.kafka_sasl_token_ca_file,
            )
        )


class AuditTopicSettings(KafkaSettings):
    """Kafka, and the topic that the audit log has there."""

    kafka_audit_topic: str = Field(
        default=AUDIT_TOPIC, description="Topic of the audit log's anchors, and of notes for it."
    )
