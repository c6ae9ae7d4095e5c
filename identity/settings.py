"""What each process reads from the environment about who may ask, once."""

from typing import Literal

from pydantic import Field

from identity.tokens.settings import TokenSettings


class IdentitySettings(TokenSettings):
    """Settings of the door of one process."""

    auth: Literal["open", "keys"] = Field(
        default="open",
        description="Who may ask: everybody, or whoever has credentials. ENVIRONMENT=production refuses to start open.",
    )
