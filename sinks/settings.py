"""The settings of a sink, read from the environment once at start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from projector.settings import ProjectorSettings

LOOPBACK = ("http://127.0.0.1", "http://localhost", "http://[::1]")


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
            if url.startswith("http://") and not url.startswith(LOOPBACK):
                problems.append(f"{name}: http:// sends every event in the clear. Use https://")
        return problems

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants whose events are written; empty: all."""
        return frozenset(filter(None, (each.strip() for each in self.sink_tenants.split(","))))
