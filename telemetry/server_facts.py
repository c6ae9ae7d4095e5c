"""Declares the metrics in which projectors tell what an operator must know of the log, the topic and PostgreSQL.

Every one has labels: a series exists only while a projector knows the fact, so no process exports a zero that it made
up.
"""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

from telemetry.metrics import REGISTRY

LOG_END = Gauge(
    "log_end_offset", "Offset that the next record of a partition will have.", ["partition"], registry=REGISTRY
)
POSITION = Gauge(
    "projection_position",
    "Offset of the next record that is projected, of the partitions that this projector answers for.",
    ["generation", "partition"],
    registry=REGISTRY,
)
LAG_EVENTS = Gauge(
    "projection_lag_events",
    "Records that Kafka acknowledged and that are not projected.",
    ["generation", "partition"],
    registry=REGISTRY,
)
LAG_SECONDS = Gauge(
    "projection_lag_seconds",
    "Age of the oldest record that is not projected; 0: there is none.",
    ["generation", "partition"],
    registry=REGISTRY,
)
OBSTACLES = Counter(
    "projection_obstacles",
    "Failed attempts at PostgreSQL or Kafka. reason: disk_full, connections, read_only, lock, password, privilege, "
    "away, other.",
    ["reason"],
    registry=REGISTRY,
)
TOPIC_PARTITIONS = Gauge("topic_partitions", "Partitions of the topic.", ["topic"], registry=REGISTRY)
TOPIC_LEADERLESS = Gauge(
    "topic_partitions_leaderless", "Partitions of the topic without a leader.", ["topic"], registry=REGISTRY
)
TOPIC_UNDER_REPLICATED = Gauge(
    "topic_partitions_under_replicated", "Partitions with fewer copies in sync than copies.", ["topic"],
    registry=REGISTRY,
)  # fmt: skip
TOPIC_COPIES = Gauge("topic_copies", "Copies of the partition that has the fewest.", ["topic"], registry=REGISTRY)
TOPIC_IN_SYNC = Gauge(
    "topic_copies_in_sync", "Copies in sync of the partition that has the fewest.", ["topic"], registry=REGISTRY
)
TOPIC_BROKEN_PROMISES = Gauge(
    "topic_promises_broken", "Promises that the topic breaks, or that cannot be checked.", ["topic"], registry=REGISTRY
)
DATABASE_BYTES = Gauge("database_bytes", "Size of the database.", ["database"], registry=REGISTRY)
CONNECTIONS = Gauge("database_connections", "Connections to PostgreSQL in use.", ["database"], registry=REGISTRY)
MOST_CONNECTIONS = Gauge(
    "database_connections_most", "Connections that PostgreSQL takes of ordinary roles.", ["database"],
    registry=REGISTRY,
)  # fmt: skip
OLDEST_TRANSACTION = Gauge(
    "database_oldest_transaction_seconds",
    "For how long the oldest transaction is open, of the sessions that the projector's role may look into.",
    ["database"],
    registry=REGISTRY,
)
TRANSACTION_AGE = Gauge(
    "database_transaction_age", "Age of the oldest transaction id, in transactions.", ["database"], registry=REGISTRY
)
CLOCK_SKEW = Gauge(
    "database_clock_skew_seconds", "PostgreSQL's clock less the projector's.", ["database"], registry=REGISTRY
)
TABLE_BYTES = Gauge("table_bytes", "Size of a table without its indexes.", ["schema", "table"], registry=REGISTRY)
INDEX_BYTES = Gauge("index_bytes", "Size of all indexes of a table.", ["schema", "table"], registry=REGISTRY)
DEAD_ROWS = Gauge(
    "table_dead_rows", "Dead rows of a table, as PostgreSQL estimates them.", ["schema", "table"], registry=REGISTRY
)
DEAD_LETTERS = Gauge(
    "dead_letters", "Dead letters of the active generation that are parked now.", ["cause"], registry=REGISTRY
)
DEAD_LETTER_AGE = Gauge(
    "dead_letter_oldest_seconds", "For how long the oldest of them is parked; 0: there is none.", ["cause"],
    registry=REGISTRY,
)  # fmt: skip
WATCHDOG_RESTARTS = Gauge(
    "watchdog_restarts_last_hour", "Projectors that their watchdog ended in the last hour.", ["database"],
    registry=REGISTRY,
)  # fmt: skip
GENERATIONS = Gauge("generations", "Generations of the read model in a state.", ["state"], registry=REGISTRY)
CATALOGUES = Gauge(
    "catalogues_in_use", "Different catalogues of event types by which events are projected.", ["generation"],
    registry=REGISTRY,
)  # fmt: skip

OF_LOG = (LOG_END, POSITION, LAG_EVENTS, LAG_SECONDS)
OF_TOPIC = (
    *(TOPIC_PARTITIONS, TOPIC_LEADERLESS, TOPIC_UNDER_REPLICATED),
    *(TOPIC_COPIES, TOPIC_IN_SYNC),
)
OF_DATABASE = (
    *(DATABASE_BYTES, CONNECTIONS, MOST_CONNECTIONS, OLDEST_TRANSACTION, TRANSACTION_AGE, CLOCK_SKEW),
    WATCHDOG_RESTARTS,
)
OF_READ_MODEL = (DEAD_LETTERS, DEAD_LETTER_AGE, GENERATIONS, CATALOGUES)
OF_TABLES = (TABLE_BYTES, INDEX_BYTES, DEAD_ROWS)

REASONS = ("disk_full", "connections", "read_only", "lock", "password", "privilege", "away", "other")
for _reason in REASONS:  # a counter that is not there yet cannot be seen to grow
    OBSTACLES.labels(reason=_reason)


def forget(gauges: tuple[Gauge, ...]) -> None:
    """Takes back what the gauges say: nobody here knows it any longer."""
    for gauge in gauges:
        gauge.clear()


def tell(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """Sets every series of the gauge. `values`: by the values of the labels, in their order."""
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
