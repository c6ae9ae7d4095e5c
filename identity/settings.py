"""What each process reads from the environment about who may ask, once."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class IdentitySettings(BaseSettings):
    """Settings of the door of one process."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    auth: Literal["open", "keys"] = Field(
        default="open",
        description="Who may ask: everybody, or who has a key. ENVIRONMENT=production refuses to start open.",
    )
