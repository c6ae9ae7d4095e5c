"""Every fault of docs/operations.md, and what is said of it."""

from collections.abc import Mapping

from tests.drivers.faults.plants import (
    a_defect,
    a_lock,
    a_missing_migration,
    a_poisoned_user,
    a_rebuild_without_projector,
    a_short_retention,
    a_wrong_clock,
    an_expired_certificate,
    broker_away,
    frozen,
    no_connections,
    postgresql_away,
    read_only,
    two_catalogues,
    wrong_password,
)
from tests.drivers.faults.servers import (
    a_runaway_client,
    a_slow_broker,
    a_topic_made_anew,
    kafka_disk_full,
    partitions_added,
    postgresql_disk_full,
)
from tests.drivers.faults.world import Fault


def faults() -> Mapping[str, Fault]:
    """All of them, by name, in an order in which each leaves the stack well for the next."""
    return {
        each.name: each
        for each in (
            Fault("broker away", broker_away, "Kafka", "127.0.0.1:", "that a broker runs", "FootfallCircuitOpen"),
            Fault(
                "PostgreSQL away", postgresql_away, "PostgreSQL", "onnect", "that the server runs", "FootfallObstacle"
            ),
            Fault("wrong password", wrong_password, "PostgreSQL", "InvalidPassword", "Check DATABASE_URL"),
            Fault(
                "clock 10 minutes off", a_wrong_clock, "clock", "600.0 s", "NTP", "FootfallClockSkew", only_here=True
            ),
            Fault("certificate expired", an_expired_certificate, "certificates", "expired", "Renew it"),
            Fault("migration missing", a_missing_migration, "schema", "0013", "footfall migrate"),
            Fault("out of connections", no_connections, "PostgreSQL", "TooManyConnections", "takes connections"),
            Fault(
                "poisoned user", a_poisoned_user, "dead letters", "2 events", "redrive or discard", "", "record_parked"
            ),
            Fault(
                "retention shorter than lag", a_short_retention, "topic", "retention.ms is 3600000", "retention.ms=-1"
            ),
            Fault("two catalogues", two_catalogues, "event types", "another", "", "FootfallCataloguesDiffer"),
            Fault("lock held on the table", a_lock, "projecting", "'a-report'", "", "FootfallStuck"),
            Fault(
                "PostgreSQL read-only",
                read_only,
                "writing",
                "default_transaction_read_only",
                "RESET",
                "FootfallObstacle",
            ),
            Fault(
                "defect in a projection",
                a_defect,
                "projecting",
                "defect",
                "",
                "FootfallPartitionStopped",
                "batch_failed",
            ),
            Fault("projector frozen", frozen, "projecting", "no projector is assigned", "", "FootfallDown"),
            Fault(
                "rebuild whose projector died", a_rebuild_without_projector, "rebuild", "no projector works", "Start"
            ),
            Fault(
                "PostgreSQL disk full",
                postgresql_disk_full,
                "writing",
                "disk is full",
                "Extend the disk",
                "FootfallDiskFull",
                "DiskFullError",
            ),
            Fault("Kafka disk full", kafka_disk_full, "Kafka", "onnect", "a full disk", "FootfallCircuitOpen"),
            Fault("broker slow", a_slow_broker, "Kafka", "took", "disks, copies and load", "FootfallKafkaSlow"),
            Fault("runaway client", a_runaway_client, "", "", "", "FootfallRunawayClient"),
            Fault(
                "topic recreated",
                a_topic_made_anew,
                "projecting",
                "another_history",
                "",
                "FootfallPartitionStopped",
                "partitions_stopped",
            ),
            Fault(
                "partition added",
                partitions_added,
                "projecting",
                "partitions were added",
                logged="records_misplaced",
                stays=True,
            ),
        )
    }
