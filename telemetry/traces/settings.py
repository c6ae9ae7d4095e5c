"""What each process reads from the environment about traces: the variables of OpenTelemetry."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PARENT_BASED = "parentbased_"


class TraceSettings(BaseSettings):
    """Settings of traces; without an endpoint nothing is recorded."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    otel_exporter_otlp_endpoint: str = Field(
        default="",
        description="Where traces are sent, by OTLP over HTTP (such as http://127.0.0.1:4318); empty: nowhere, and "
        "nothing is recorded.",
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        default="parentbased_always_on",
        description="Which requests are recorded; parentbased_..: who sends a `traceparent` has decided already.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0, ge=0, le=1, description="Share of the requests that the sampler ..traceidratio records, 0 to 1."
    )
    otel_service_name: str = Field(
        default="",
        max_length=255,
        description="Names the process in spans; empty: footfall-command-side and so on.",
    )
    traces_from_clients_per_second: int = Field(
        default=100,
        ge=0,
        description="Requests a second that a process records because their `traceparent` says so; the ratio decides "
        "about more.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        endpoint = self.otel_exporter_otlp_endpoint
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://")
        return self

    def parent_based(self) -> bool:
        """Whether the sampler follows the decision of who sends a trace."""
        return self.otel_traces_sampler.startswith(PARENT_BASED)

    def ratio(self) -> float:
        """The share of the traces that begin here, 0 to 1."""
        kind = self.otel_traces_sampler.removeprefix(PARENT_BASED)
        return {"always_on": 1.0, "always_off": 0.0}.get(kind, self.otel_traces_sampler_arg)
