"""Settings of the operators' commands, read from the environment."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from brokers.registry.settings import WireSettings
from brokers.settings import LOOPBACK, AuditTopicSettings, KafkaSettings
from contracts.record import DEAD_LETTER_TOPIC, PARTITIONS
from read_model.connecting.database_url import DatabaseUrlSetting


class MigrateSettings(BaseSettings):
    """Settings of `footfall migrate`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: DatabaseUrlSetting = Field(
        description="PostgreSQL URL of the database's owner (it needs CREATEROLE)."
    )


class TopicSettings(AuditTopicSettings):
    """Settings of `footfall topics create`."""

    kafka_dlq_topic: str = Field(default=DEAD_LETTER_TOPIC, description="Topic of the dead letters.")
    kafka_partitions: int = Field(
        default=PARTITIONS, ge=1, le=10_000, description="Partitions of a topic that is created."
    )
    kafka_replication_factor: int = Field(
        default=1, ge=1, le=10, description="Copies of each partition; 3 in production."
    )


class DlqSettings(BaseSettings):
    """Settings of `footfall dlq`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: DatabaseUrlSetting = Field(
        description="PostgreSQL URL of a role that is a member of footfall_writer."
    )
    event_types_file: Path | None = Field(
        default=None, description="Catalogue of event types, a TOML file; unset: the one that Footfall is shipped with."
    )


class GrantReporterSettings(BaseSettings):
    """Settings of `footfall grant-reporter`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: DatabaseUrlSetting = Field(description="PostgreSQL URL of the database's owner.")


class RebuildSettings(KafkaSettings):
    """Settings of `footfall rebuild`."""

    database_url: DatabaseUrlSetting = Field(description="PostgreSQL URL of the database's owner.")


class PrivacySettings(KafkaSettings, WireSettings):
    """Settings of `footfall privacy`."""

    database_url: DatabaseUrlSetting = Field(
        description="PostgreSQL URL of a role that is a member of footfall_writer."
    )


class RewriteSettings(KafkaSettings):
    """Settings of `footfall privacy rewrite`."""

    database_url: DatabaseUrlSetting = Field(description="PostgreSQL URL of the database's owner.")
    kafka_dlq_topic: str = Field(default=DEAD_LETTER_TOPIC, description="Topic of the dead letters.")
    event_types_file: Path | None = Field(
        default=None, description="Catalogue of event types, a TOML file; unset: the one that Footfall is shipped with."
    )


class AuditSettings(AuditTopicSettings):
    """Settings of `footfall audit`."""

    database_url: DatabaseUrlSetting = Field(description="PostgreSQL URL of the database's owner.")


class ArchiveSettings(AuditTopicSettings):
    """Settings of `footfall archive`."""

    archive_location: str = Field(
        default="", description="Where the archive lies: a directory, or s3://bucket/folder.", max_length=1_024
    )
    archive_s3_endpoint_url: str = Field(
        default="", max_length=1_024, description="URL of the S3-compatible server; empty: Amazon's."
    )
    archive_s3_region: str = Field(default="", max_length=64, description="Region of the bucket; empty: AWS's own way.")
    archive_s3_access_key_id: str = Field(
        default="", max_length=256, description="Access key of the bucket; empty: AWS's own way (variables, roles)."
    )
    archive_s3_secret_access_key: SecretStr = Field(
        default=SecretStr(""), description="Secret of ARCHIVE_S3_ACCESS_KEY_ID."
    )
    archive_file_records: int = Field(
        default=500_000, ge=1, le=10_000_000, description="Records in one file of the archive, at most."
    )
    archive_file_bytes: int = Field(
        default=268_435_456,
        ge=1_024,
        le=4_294_967_296,
        description="Bytes of keys and values in one file of the archive, before compression, about.",
    )

    def problems_in_production(self) -> list[str]:
        """What ENVIRONMENT=production refuses: a line for each problem."""
        endpoint = urlsplit(self.archive_s3_endpoint_url)
        problems = super().problems_in_production()
        if endpoint.scheme == "http" and endpoint.hostname not in LOOPBACK:
            problems.append("ARCHIVE_S3_ENDPOINT_URL: http:// sends every record in the clear. Use https://")
        return problems


class RestoreSettings(ArchiveSettings, RebuildSettings):
    """Settings of `footfall archive restore`."""


class ArchiveRewriteSettings(RestoreSettings):
    """Settings of `footfall archive rewrite`."""

    event_types_file: Path | None = Field(
        default=None, description="Catalogue of event types, a TOML file; unset: the one that Footfall is shipped with."
    )
