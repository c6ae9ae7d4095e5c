"""What a process reads of the provider of identities from the environment, once."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from brokers.settings import LOOPBACK, FileSetting

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")  # the last two are one: RFC 9864 renamed it
RSA_BITS = 2_048  # at least; NIST SP 800-57 takes 3,072 for as strong as AES-128


class TokenSettings(BaseSettings):
    """Settings for access tokens (JWT). Without `oidc_issuer` no token is accepted."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    oidc_issuer: str = Field(
        default="", description="Issuer of access tokens, exactly as in their `iss`; empty: no token is accepted."
    )
    oidc_audience: str = Field(default="", description="Audience of access tokens: what their `aud` must contain.")
    oidc_jwks_url: str = Field(
        default="", description="Where the issuer's keys are; empty: as its `/.well-known/openid-configuration` says."
    )
    oidc_algorithms: str = Field(
        default="RS256,ES256",
        description="Accepted algorithms, comma separated: of `RS256`, `PS256`, `ES256`, `EdDSA`, `Ed25519`.",
    )
    oidc_rsa_least_bits: int = Field(
        default=RSA_BITS,
        ge=RSA_BITS,
        le=8_192,
        description="Shortest RSA key of the issuer that is used, bits; 3072 is 128 bits of security.",
    )
    oidc_tenant: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Tenant of every token; empty: as OIDC_TENANT_CLAIM says.",
    )
    oidc_tenant_claim: str = Field(default="tenant_id", min_length=1, description="Claim that names the tenant.")
    oidc_subject_claim: str = Field(default="sub", min_length=1, description="Claim that names the subject.")
    oidc_scope_claims: str = Field(
        default="scope,scp",
        min_length=1,
        description="Claims that list the scopes, comma separated; the first that a token has is read.",
    )
    oidc_strong_acr: str = Field(
        default="",
        description="Values of `acr`, comma separated: without one of them a token has neither scope `operator` nor "
        "`privacy`; empty: any sign-in will do.",
    )
    oidc_leeway_ms: int = Field(
        default=30_000,
        ge=0,
        le=300_000,
        description="How far the clocks of the issuer and of this process may differ, ms.",
    )
    oidc_max_lifetime_ms: int = Field(
        default=86_400_000,
        ge=1_000,
        description="Longest life of an access token, `iat` to `exp`, ms; others are refused.",
    )
    oidc_max_token_bytes: int = Field(
        default=8_192, ge=256, le=65_536, description="Largest access token, bytes; a larger one is not looked at."
    )
    oidc_remembered_tokens: int = Field(
        default=4_096, ge=0, description="Accepted tokens that a process remembers, so that it checks each once."
    )
    oidc_ca_file: FileSetting = Field(
        default=None, description="CA certificates for the connection to the issuer, PEM; unset: those of the system."
    )

    @model_validator(mode="after")
    def _complete(self) -> "TokenSettings":
        if not self.oidc_issuer:
            return self
        if not self.oidc_audience:
            raise ValueError("OIDC_ISSUER needs OIDC_AUDIENCE: a token for another service must not be accepted here")
        for name, url in (("OIDC_ISSUER", self.oidc_issuer), ("OIDC_JWKS_URL", self.oidc_jwks_url)):
            if url and not is_secure(url):
                raise ValueError(f"{name} must begin with https://; http:// is for loopback only")
        if not self.algorithms() or not set(self.algorithms()).issubset(ALGORITHMS):
            raise ValueError(f"OIDC_ALGORITHMS must list some of {', '.join(ALGORITHMS)}")
        return self

    def algorithms(self) -> Sequence[str]:
        """The accepted algorithms."""
        return listed(self.oidc_algorithms)


def listed(text: str) -> list[str]:
    """What is listed, comma separated."""
    return [name.strip() for name in text.split(",") if name.strip()]


def is_secure(url: str) -> bool:
    """Whether what comes from the URL is what its owner sent: with https, or from this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        return (
            bool(host)
            and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))
            and "@" not in parts.netloc
            and not parts.fragment
        )
    except ValueError:
        return False
