"""What each process reads from the environment about who may ask, once."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from pydantic import Field, field_validator

from brokers.settings import AuditTopicSettings
from identity.tokens.settings import TokenSettings, listed
from web.policies.hosts import is_host_name
from web.policies.origins import is_origin
from web.policies.trusted_proxies import unmapped_network
from web.transport.settings import FileSetting

KEYS_TOPIC = "footfall-keys"


Auth = Literal[
    "open",
    "keys",
    "tokens",
    "certificates",
    "keys,tokens",
    "keys,certificates",
    "tokens,certificates",
    "keys,tokens,certificates",
]


class IdentitySettings(TokenSettings):
    """Settings of the door of one process."""

    auth: Auth = Field(
        default="open",
        description="Who may ask: everybody, or who has a key, token or certificate. ENVIRONMENT=production refuses to "
        "start open.",
    )
    client_certificates_file: FileSetting = Field(
        default=None, description="JSON file that says which client certificate stands for which tenant and scopes."
    )
    client_certificate_header: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
        description="Header in which TRUSTED_PROXIES give the certificate that they verified; empty: in none.",
    )

    allowed_hosts: str = Field(
        default="",
        description="Further names of a server on a loopback address, comma separated; `.example.org` is all below it.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins of pages that may send requests and read answers, comma separated; `*` is every page.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks of proxies whose X-Forwarded-For is believed, comma separated.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        wrong = [each for each in listed(text.lower()) if not is_host_name(each)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no name of a host: it is `shop.example`, or `.example.org` for all below")
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        wrong = [each for each in listed(text.lower()) if not is_origin(each) and text != "*"]
        if wrong:
            raise ValueError(f"{wrong[0]} is no origin: it is scheme://host, with :port if that is not the usual one")
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for each in listed(text):
            ip_network(each)  # raises ValueError, whose text names it
        return text

    def hosts(self) -> list[str]:
        """Further names of the server, in lower case."""
        return listed(self.allowed_hosts.lower())

    def origins(self) -> list[str]:
        """Origins of pages, in lower case; `*` is every page."""
        return listed(self.cors_origins.lower())

    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """The networks of trusted proxies."""
        return [unmapped_network(each) for each in listed(self.trusted_proxies)]

    def takes_keys(self) -> bool:
        """Whether a key opens the door."""
        return "keys" in self.auth.split(",")

    def takes_tokens(self) -> bool:
        """Whether an access token opens the door."""
        return "tokens" in self.auth.split(",")

    def takes_certificates(self) -> bool:
        """Whether a client's certificate opens the door."""
        return "certificates" in self.auth.split(",")


class KeySettings(AuditTopicSettings):
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
