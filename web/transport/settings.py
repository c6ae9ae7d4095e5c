"""What each process reads from the environment about TLS on its own port."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from web.transport.certificate import CertificateError, ServerCertificate

YEAR = 31_536_000  # seconds

FileSetting = Annotated[Path | None, BeforeValidator(lambda value: value or None)]  # an empty variable is unset


class TlsSettings(BaseSettings):
    """Settings of TLS on the port of one process; without a certificate it speaks plain HTTP."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    tls_certificate_file: FileSetting = Field(
        default=None, description="Certificate of the process with its chain (PEM); unset: plain HTTP."
    )
    tls_key_file: FileSetting = Field(
        default=None, description="Private key of TLS_CERTIFICATE_FILE (PEM); unset: in the same file."
    )
    tls_key_password: SecretStr = Field(
        default=SecretStr(""), description="Passphrase of the private key; empty: the key is not encrypted."
    )
    tls_client_ca_file: FileSetting = Field(
        default=None, description="Certificates (PEM) that sign those of clients; unset: clients are asked for none."
    )
    tls_client_certificates: Literal["optional", "required"] = Field(
        default="optional", description="Whether a client needs a certificate, if TLS_CLIENT_CA_FILE is set."
    )
    tls_hsts_seconds: int = Field(
        default=YEAR,
        ge=0,
        description="How long browsers use HTTPS only (Strict-Transport-Security), seconds; 0: they are not told.",
    )

    tls_hsts_subdomains: bool = Field(
        default=False,
        description="Whether browsers use HTTPS only for all names below the host's, too (includeSubDomains).",
    )
    http_allow_plaintext: bool = Field(
        default=False,
        description="Whether ENVIRONMENT=production may listen without TLS beyond loopback: behind a proxy that ends "
        "TLS, in a network that nobody else can listen to.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.tls_certificate_file is None:
            if self.tls_key_file is not None or self.tls_client_ca_file is not None:
                raise ValueError("TLS_CERTIFICATE_FILE is not set, but TLS_KEY_FILE or TLS_CLIENT_CA_FILE is")
            return self
        try:
            self.certificate()
        except CertificateError as error:
            raise ValueError(str(error)) from None
        return self

    def certificate(self) -> ServerCertificate:
        """Returns the certificate. Raises CertificateError."""
        assert self.tls_certificate_file is not None
        return ServerCertificate(
            self.tls_certificate_file,
            self.tls_key_file,
            self.tls_key_password.get_secret_value(),
            self.tls_client_ca_file,
            required=self.tls_client_certificates == "required",
        )
