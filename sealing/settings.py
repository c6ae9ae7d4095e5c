"""What a process reads from the environment about the sealed log."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from read_model.connecting.database_url import OptionalDatabaseUrlSetting
from sealing.tenant_keys import TenantKeys, output_of, parse_tenant_keys


class SealingSettings(BaseSettings):
    """Settings of the sealed log, for processes and commands that write or read it."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    privacy: Literal["plain", "sealed"] = Field(
        default="plain",
        description="How new events are written: as they are, or with user and payload sealed by a key of the user.",
    )
    key_store_url: OptionalDatabaseUrlSetting = Field(
        default=SecretStr(""),
        description="PostgreSQL URL of the key store, of a member of footfall_keys; unset: there is no sealed log.",
    )
    tenant_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Tenant keys, a line each: tenant or `*`, key id, 32 bytes in base64. Give it as TENANT_KEYS_FILE.",
    )
    tenant_keys_command: str = Field(
        default="", description="Command that prints TENANT_KEYS, such as a key management service's; run at start."
    )
    key_cache_subjects: int = Field(
        default=100_000, ge=100, description="Users whose keys one process remembers; of others it asks the key store."
    )

    def has_store(self) -> bool:
        """Whether there is a key store."""
        return bool(self.key_store_url.get_secret_value())

    def keys(self) -> TenantKeys:
        """Returns the tenant keys. Raises ValueError, whose text is a line for the operator and holds no secret."""
        text, command = self.tenant_keys.get_secret_value(), self.tenant_keys_command
        if bool(text) == bool(command):
            raise ValueError("TENANT_KEYS: the key store needs it, or TENANT_KEYS_COMMAND, and not both")
        name = "TENANT_KEYS" if text else "TENANT_KEYS_COMMAND"
        try:
            return parse_tenant_keys(text or output_of(command))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
