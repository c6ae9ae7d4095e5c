"""Every fault of docs/operations.md, and what is said of it."""

from collections.abc import Mapping

from tests.drivers.faults import plants, postgresql, servers
from tests.drivers.faults.world import Fault

STUCK = ("FootfallStuck",)
NO_KAFKA = ("FootfallCircuitOpen", "FootfallPostErrorsFast")
NO_PROJECTOR = ("FootfallDown", "FootfallNotProjecting")


def faults() -> Mapping[str, Fault]:
    """All of them, by name, in an order in which each leaves the stack well for the next."""
    return {each.name: each for each in (*OF_KAFKA, *OF_POSTGRESQL, *OF_FOOTFALL, *OF_THE_TOPIC)}


OF_KAFKA = (
    Fault(
        "broker away",
        servers.broker_away,
        *("Kafka", "127.0.0.1:", "that a broker runs"),
        alerts=NO_KAFKA,
        logged="circuit_changed",
        logged_by="front",
        trace="refused",
    ),
    Fault(
        "broker slow",
        servers.a_slow_broker,
        *("Kafka", "took", "disks, copies and load"),
        alerts=("FootfallKafkaSlow",),
        trace="slow",
    ),
    Fault(
        "Kafka disk full",
        servers.kafka_disk_full,
        *("Kafka", "127.0.0.1:", "a full disk"),
        alerts=NO_KAFKA,
        logged="circuit_changed",
        logged_by="front",
        trace="refused",
    ),
    Fault(
        "one broker of three away",
        servers.one_broker_of_three_away,
        *("copies", "2 of 3 copies in sync", "Look at the brokers [3]"),
        alerts=("FootfallUnderReplicated",),
        trace="whole",
    ),
)
OF_POSTGRESQL = (
    Fault(
        "PostgreSQL away",
        postgresql.postgresql_away,
        *("PostgreSQL", "onnect", "that the server runs"),
        alerts=("FootfallObstacle", *STUCK),
    ),
    Fault(
        "PostgreSQL read-only",
        postgresql.read_only,
        *("writing", "default_transaction_read_only", "RESET"),
        alerts=("FootfallObstacle", *STUCK),
        effects=("FootfallNotProjecting",),
    ),
    Fault(
        "few connections left",
        postgresql.few_connections,
        *("connections", "connections are in use", "end idle sessions"),
        alerts=("FootfallConnections",),
        trace="whole",
    ),
    Fault(
        "out of connections",
        postgresql.no_connections,
        *("PostgreSQL", "TooManyConnections", "End idle sessions"),
        alerts=("FootfallObstacle",),
        effects=("FootfallConnections",),
        trace="whole",
    ),
    Fault(
        "PostgreSQL disk full",
        postgresql.disk_full,
        *("writing", "disk is full", "Extend the disk"),
        alerts=("FootfallDiskFull", *STUCK),
        logged="DiskFullError",
    ),
    Fault(
        "lock held on the table",
        postgresql.a_lock,
        *("projecting", "'a-report'", "The reason names what it waits for"),
        alerts=STUCK,
        effects=("FootfallLongTransaction",),
    ),
    Fault(
        "lock held on a rebuild's table",
        postgresql.a_lock_on_a_rebuild,
        *("projecting", "'a-report'", "The reason names what it waits for"),
        alerts=("FootfallRebuildStalled", "FootfallObstacle"),
        effects=("FootfallLongTransaction",),
        trace="whole",
    ),
    Fault(
        "wrong password",
        postgresql.wrong_password,
        *("PostgreSQL", "InvalidPassword", "the password in DATABASE_URL"),
        alerts=NO_PROJECTOR,
        logged="password authentication failed",
    ),
    Fault(
        "migration missing",
        postgresql.a_missing_migration,
        *("schema", "0013", "footfall migrate"),
        alerts=("FootfallNotProjecting", "FootfallObstacle", *STUCK),
        logged="schema_not_usable",
    ),
)
OF_FOOTFALL = (
    Fault(
        "poisoned user",
        plants.a_poisoned_user,
        *("dead letters", "events are parked", "redrive or discard"),
        alerts=("FootfallDeadLettersOld",),
        logged="record_parked",
        trace="parked",
    ),
    Fault(
        "defect in a projection",
        plants.a_defect,
        *("projecting", "defect", ""),
        alerts=("FootfallPartitionStopped",),
        logged="batch_failed",
    ),
    Fault(
        "projector frozen",
        plants.frozen,
        *("projecting", "no projector is assigned", "Start a projector"),
        alerts=NO_PROJECTOR,
    ),
    Fault(
        "projector stands still",
        plants.stands_still,
        *("", "", ""),
        alerts=("FootfallWatchdogRestarts",),
        logged="projector_stuck",
        trace="whole",
        stays=True,
    ),
    Fault(
        "two catalogues",
        plants.two_catalogues,
        *("event types", "different catalogues of event types", "Give all the same file"),
        alerts=("FootfallCataloguesDiffer",),
        trace="whole",
    ),
    Fault(
        "clock 10 minutes off",
        plants.a_wrong_clock,
        *("clock", "behind the one here", "NTP"),
        alerts=("FootfallClockSkew",),
        trace="late",
    ),
    Fault(
        "certificate near its end",
        plants.a_certificate_near_its_end,
        *("certificates", "in 4 days", "Renew it"),
        alerts=("FootfallCertificateEnds",),
        trace="whole",
    ),
    Fault(
        "certificate expired",
        plants.an_expired_certificate,
        *("certificates", "expired", "Renew it"),
        alerts=("FootfallDown",),
        trace="whole",
    ),
    Fault(
        "rebuild whose projector died",
        plants.a_rebuild_without_projector,
        *("rebuild", "no projector works", "Start"),
        alerts=NO_PROJECTOR,
    ),
    Fault(
        "runaway client",
        plants.a_runaway_client,
        *("", "", ""),
        alerts=("FootfallRunawayClient",),
        trace="limited",
    ),
)
OF_THE_TOPIC = (
    Fault(
        "retention shorter than lag",
        servers.a_short_retention,
        *("history", "events vanish before they are projected", "retention.ms=-1"),
        alerts=("FootfallTopicPromises", "FootfallLagging"),
        logged="topic_promise_broken",
        trace="whole",
    ),
    Fault(
        "topic recreated",
        servers.a_topic_made_anew,
        *("projecting", "another_history", "docs/stops.md"),
        alerts=("FootfallPartitionStopped",),
        logged="partitions_stopped",
    ),
    Fault(
        "partition added",
        servers.partitions_added,
        *("projecting", "partitions were added", ""),
        logged="records_misplaced",
        trace="whole",
        stays=True,
    ),
)
