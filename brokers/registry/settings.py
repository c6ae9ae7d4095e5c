"""How records of the topic are written, and the schema registry: for every process and command that writes them."""

from collections.abc import Iterator
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from brokers.settings import LOOPBACK, FileSetting


class WireSettings(BaseSettings):
    """The wire format of the topic's records; by default their JSON, and nothing else."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    kafka_wire_format: Literal["json", "confluent-json"] = Field(
        default="json",
        description="How values are written: their JSON, or with the schema's id before it, as Confluent's clients do.",
    )
    kafka_cloudevents: bool = Field(
        default=False, description="Whether records say in headers what a CloudEvent does (1.0, binary mode)."
    )
    schema_registry_url: str = Field(
        default="",
        description="Schema registry (Confluent's API) in which the topic's JSON Schema is registered; empty: in none.",
    )
    schema_registry_username: str = Field(default="", description="User name at SCHEMA_REGISTRY_URL.")
    schema_registry_password: SecretStr = Field(
        default=SecretStr(""), description="Password at SCHEMA_REGISTRY_URL; used with SCHEMA_REGISTRY_USERNAME."
    )
    schema_registry_ca_file: FileSetting = Field(
        default=None, description="Certificates (PEM) for SCHEMA_REGISTRY_URL; unset: those of the system."
    )

    @model_validator(mode="after")
    def _registry_is_usable(self) -> Self:
        problems = list(self._registry_problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _registry_problems(self) -> Iterator[str]:
        if not self.schema_registry_url:
            if self.kafka_wire_format != "json":
                yield f"SCHEMA_REGISTRY_URL is not set, and KAFKA_WIRE_FORMAT={self.kafka_wire_format} needs it"
            return
        try:
            url = urlsplit(self.schema_registry_url)
            usable = url.scheme in ("http", "https") and bool(url.hostname)
        except ValueError:
            yield "SCHEMA_REGISTRY_URL is no address"
            return
        if not usable or url.query or url.fragment:
            yield "SCHEMA_REGISTRY_URL must be http:// or https://, a host, and perhaps a port and a path"
        elif url.username is not None or url.password is not None:
            yield "SCHEMA_REGISTRY_URL holds a password; give it as SCHEMA_REGISTRY_PASSWORD"
        elif self.schema_registry_username and url.scheme != "https" and url.hostname not in LOOPBACK:
            yield "SCHEMA_REGISTRY_URL does not begin with https://, and the password would be sent in the clear"
