"""What the console reads from the environment, beside the settings of the query side that runs in its process."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from query_side.settings import QuerySettings
from read_model.connecting.database_url import OptionalDatabaseUrlSetting
from web.policies.hosts import is_loopback

IN_THE_CLEAR = (
    "CONSOLE_WATCH_URLS: what {} tells, and CONSOLE_WATCH_KEY, travel in the clear. Use https; in a network that nobody"
    " else can listen to, set CONSOLE_WATCH_ALLOW_PLAINTEXT=true"
)


class OwnSettings(BaseSettings):
    """What only the console reads. Every default is the safe one: without OPERATOR_DATABASE_URL it only looks."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    port: int = Field(default=3004, ge=0, le=65_535, description="Port to listen on.")
    operator_database_url: OptionalDatabaseUrlSetting = Field(
        default=SecretStr(""),
        description="PostgreSQL URL of the database's owner, for what operators do; empty: this console only looks.",
    )
    console_watch_urls: str = Field(
        default="",
        description="Processes whose `/metrics` the console reads, as URLs with commas between them.",
    )
    console_watch_key: SecretStr = Field(
        default=SecretStr(""), description="API key with the scope `metrics`, for CONSOLE_WATCH_URLS; empty: none."
    )
    console_watch_ca_file: str = Field(
        default="",
        description="PEM file of the authority of the https URLs in CONSOLE_WATCH_URLS; empty: the system's.",
    )

    console_watch_allow_plaintext: bool = Field(
        default=False, description="Whether ENVIRONMENT=production may ask CONSOLE_WATCH_URLS elsewhere without TLS."
    )

    @field_validator("console_watch_urls")
    @classmethod
    def _are_urls(cls, text: str) -> str:
        for url in filter(None, text.split(",")):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("each must be a URL such as http://127.0.0.1:3003, without credentials")
        return text

    def watched(self) -> list[str]:
        """The URLs of the processes."""
        return [url.strip().rstrip("/") for url in self.console_watch_urls.split(",") if url.strip()]

    def problems_in_production(self) -> list[str]:
        """What ENVIRONMENT=production refuses: a line for each problem."""
        parts = [urlsplit(url) for url in self.watched()]
        plain = [one.netloc for one in parts if one.scheme == "http" and not is_loopback(one.hostname or "")]
        if not plain or self.console_watch_allow_plaintext:
            return []
        return [IN_THE_CLEAR.format(", ".join(plain))]

    def may_act(self) -> bool:
        """Whether this process has what an operator's work needs."""
        return bool(self.operator_database_url.get_secret_value())


class ConsoleSettings(OwnSettings, QuerySettings):
    """Settings of one console process."""
