"""The projector's settings, read from the environment once at start."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from brokers.settings import AuditTopicSettings
from contracts.record import CONSUMER_GROUP, DEAD_LETTER_TOPIC
from read_model.connecting.database_url import DatabaseUrlSetting
from telemetry.settings import ListeningAddress, ProcessSettings

# Compose files pass a variable that is not set as an empty one.
Days = Annotated[int | None, BeforeValidator(lambda given: None if given == "" else given)]


class ProjectorSettings(AuditTopicSettings, ProcessSettings):
    """Settings of one projector process. Every default is the safe one."""

    database_url: DatabaseUrlSetting = Field(
        description="PostgreSQL URL of a role that is a member of footfall_writer."
    )
    kafka_group_id: str = Field(default=CONSUMER_GROUP, description="Consumer group of the projectors.")
    kafka_session_timeout_ms: int = Field(
        default=10_000,
        ge=1_000,
        description="Silence after which the group takes a projector for dead, and a projector its coordinator, ms.",
    )
    kafka_group_instance_id: str = Field(
        default="",
        max_length=200,
        description="Name of this projector in its group that stays over restarts (static membership); empty: none.",
    )
    kafka_heartbeat_interval_ms: int = Field(
        default=300,
        ge=100,
        description="Interval of heartbeats to the group, ms: how long one projector may not know of a rebalance.",
    )
    start_from: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where a partition without a checkpoint begins."
    )
    batch_max_records: int = Field(default=8_000, ge=1, le=50_000, description="Records in one transaction, at most.")
    batch_max_bytes: int = Field(
        default=8_388_608, ge=1_024, description="Bytes of record values in one transaction, at most."
    )
    batch_max_wait_ms: int = Field(
        default=100, ge=1, le=10_000, description="Longest wait of a fetch for new records, ms."
    )
    kafka_dlq_topic: str = Field(default=DEAD_LETTER_TOPIC, description="Topic of the dead letters.")
    max_parked_of_one_key: int = Field(
        default=1_000, ge=1, description="Dead letters of one key, at most; with more, its partition stops."
    )
    max_parked_of_one_partition: int = Field(
        default=10_000, ge=1, description="Dead letters of one partition, at most; with more, it stops."
    )
    projector_lanes: int = Field(default=3, ge=1, le=8, description="Database connections that commit in parallel.")
    projector_host: ListeningAddress = Field(
        default="127.0.0.1", description="Address of the projector's health and metrics; `::` is every address."
    )
    projector_port: int = Field(
        default=3003, ge=0, le=65_535, description="Port of the projector's health and metrics."
    )
    watchdog_interval_ms: int = Field(
        default=15_000,
        ge=200,
        le=3_600_000,
        description="The watchdog ends a projector that makes no progress for this time although there is work, ms.",
    )
    retention_days: Days = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Days that the read model keeps events of tenants without a line of their own; unset: for ever.",
    )
    retention_counts_days: Days = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Days that it keeps counts by hour, at least as long as events; unset: for ever.",
    )
