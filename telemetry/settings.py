"""What every process reads from the environment, once."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Of IPv6, people write the address as in a URL, too.
ListeningAddress = Annotated[str, AfterValidator(lambda text: text.strip().removeprefix("[").removesuffix("]").lower())]


class ProcessSettings(BaseSettings):
    """What events mean, how long a starting process waits for its servers, and what it logs."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    event_types_file: Path | None = Field(
        default=None, description="Catalogue of event types, a TOML file; unset: the one that Footfall is shipped with."
    )
    startup_timeout_ms: int = Field(
        default=60_000,
        ge=0,
        description="How long a starting process waits for a server that is away before it exits, ms; 0: not at all.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )
