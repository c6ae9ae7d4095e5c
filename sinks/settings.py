"""The settings of a sink, read from the environment once at start."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints

from brokers.settings import LOOPBACK
from projector.settings import ProjectorSettings


class SinkSettings(ProjectorSettings):
    """Settings of `footfall sink`."""

    sink_name: Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]{0,30})?$")] = Field(
        default="", description="Name of the sink, by which its checkpoints are kept; empty: that of its kind."
    )
    sink_tenants: str = Field(
        default="", max_length=10_000, description="Tenants whose events are written, by commas; empty: all."
    )
    sink_port: int = Field(default=3005, ge=0, le=65_535, description="Port of a sink's health and metrics.")
    sink_duckdb_file: Path = Field(default=Path("footfall.duckdb"), description="The DuckDB database of the sink.")
    sink_url: str = Field(
        default="http://127.0.0.1:9200", max_length=1_024, description="URL of Elasticsearch or OpenSearch."
    )
    sink_user: str = Field(default="", max_length=256, description="User at SINK_URL; empty: nobody.")
    sink_password: SecretStr = Field(default=SecretStr(""), description="Password of SINK_USER.")
    sink_ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities of SINK_URL; unset: the system's."
    )
    sink_bigquery_dataset: Annotated[
        str, StringConstraints(pattern=r"^([a-z][a-z0-9-]{0,62}\.[A-Za-z0-9_]{1,1024})?$")
    ] = Field(default="", description="Dataset of the sink bigquery, `project.dataset`. It must exist.")
    sink_bigquery_key_file: Path | None = Field(
        default=None, description="Key file of a service account; unset: the account of the machine in Google's cloud."
    )
    sink_bigquery_url: str = Field(
        default="https://bigquery.googleapis.com", max_length=1_024, description="URL of BigQuery, or of an emulator."
    )

    def problems_in_production(self) -> list[str]:
        """What ENVIRONMENT=production refuses: a line for each problem."""
        problems = super().problems_in_production()
        for name, url in (("SINK_URL", self.sink_url), ("SINK_BIGQUERY_URL", self.sink_bigquery_url)):
            if _is_in_the_clear(url):
                problems.append(f"{name}: http:// sends every event in the clear. Use https://")
        return problems

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants whose events are written; empty: all."""
        return frozenset(filter(None, (each.strip() for each in self.sink_tenants.split(","))))


def _is_in_the_clear(url: str) -> bool:
    """Whether what is sent there can be read on its way; a URL that is none is refused by whoever connects."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and parts.hostname not in LOOPBACK
    except ValueError:
        return False
