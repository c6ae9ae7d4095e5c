"""Counts the events and the distinct users of each event type in each hour.

Distinct users are exact: `activity_hourly_users` remembers for each user and hour which types were seen, one small row
a user and hour, and only a type that is not in it yet counts. Types without a bit have rows of their own for this, in
`activity_hourly_type_users`. A user belongs to one partition, so the partitions'
numbers can be added up; a user whose events were put into several partitions counts once in each.

The hour is that of the event's timestamp in UTC. The result does not depend on the order of events.
"""

from datetime import datetime

from projector.projections.event_batch import EventBatch
from projector.projections.projection import ChangeRows, ChangeTable, Projection

# Stored as sums of bits, so a type keeps its bit for ever. An open set of types has not enough bits, so other types are
# stored as rows.
TYPE_BITS: dict[str, int] = {"LOGIN": 1, "LOGOUT": 2, "PRODUCT_VIEW": 4}


def fold(batch: EventBatch) -> tuple[ChangeRows, ChangeRows, ChangeRows]:
    """Folds new events to change rows.

    Returns:
        The event counts by (tenant, hour, type, partition); the type bits by (tenant, hour, user, partition); and, for
        types without a bit, the different (tenant, hour, type, user, partition).
    """
    events: dict[tuple[str, datetime, str, int], int] = {}
    types: dict[tuple[str, datetime, str, int], int] = {}
    others: set[tuple[str, datetime, str, str, int]] = set()
    for (tenant_id, user_id, partition), actions in batch.users:
        counts: dict[tuple[datetime, str], int] = {}
        for kind, _, _, hour, _, _ in actions:
            counts[hour, kind] = counts.get((hour, kind), 0) + 1
        for (hour, kind), count in counts.items():
            key = (tenant_id, hour, kind, partition)
            events[key] = events.get(key, 0) + count
            visit = (tenant_id, hour, user_id, partition)
            bit = TYPE_BITS.get(kind, 0)
            types[visit] = types.get(visit, 0) | bit
            if not bit:
                others.add((tenant_id, hour, kind, user_id, partition))
    events_rows = [(*key, events[key]) for key in sorted(events)]
    return events_rows, [(*visit, types[visit]) for visit in sorted(types)], sorted(others)


REMEMBER = """
    MERGE INTO {generation}.activity_hourly_users AS stored USING activity_hourly_seen AS change
    ON stored.tenant_id = change.tenant_id AND stored.hour = change.hour AND stored.user_id = change.user_id
       AND stored.kafka_partition = change.kafka_partition
    WHEN MATCHED AND change.types & ~stored.types <> 0 THEN UPDATE SET types = stored.types | change.types
    WHEN NOT MATCHED THEN INSERT (tenant_id, hour, user_id, kafka_partition, types)
        VALUES (change.tenant_id, change.hour, change.user_id, change.kafka_partition, change.types)
    RETURNING new.tenant_id, new.hour, new.kafka_partition, new.types & ~coalesce(old.types, 0) AS types
"""

REMEMBER_OTHERS = """
    INSERT INTO {generation}.activity_hourly_type_users (tenant_id, hour, event_type, user_id, kafka_partition)
    SELECT tenant_id, hour, event_type, user_id, kafka_partition FROM activity_hourly_types_seen
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, hour, event_type, kafka_partition
"""

MERGE = f"""
    MERGE INTO {{generation}}.activity_hourly AS stored USING (
        SELECT tenant_id, hour, event_type, kafka_partition, sum(events)::bigint AS events, sum(users)::bigint AS users
        FROM (
            SELECT tenant_id, hour, event_type, kafka_partition, events, 0 AS users FROM activity_hourly_events
            UNION ALL
            SELECT tenant_id, hour, event_type, kafka_partition, 0, 1 FROM activity_hourly_unseen
            JOIN (VALUES {", ".join(f"('{name}', {bit})" for name, bit in TYPE_BITS.items())}) AS known(event_type, bit)
              ON types & bit <> 0
            UNION ALL
            SELECT tenant_id, hour, event_type, kafka_partition, 0, 1 FROM activity_hourly_types_unseen
        ) AS added
        GROUP BY tenant_id, hour, event_type, kafka_partition
        ORDER BY tenant_id, hour, event_type, kafka_partition
    ) AS change
    ON stored.tenant_id = change.tenant_id AND stored.hour = change.hour AND stored.event_type = change.event_type
       AND stored.kafka_partition = change.kafka_partition
    WHEN MATCHED THEN UPDATE SET events = stored.events + change.events, users = stored.users + change.users
    WHEN NOT MATCHED THEN INSERT (tenant_id, hour, event_type, kafka_partition, events, users)
        VALUES (change.tenant_id, change.hour, change.event_type, change.kafka_partition, change.events, change.users)
"""

ACTIVITY_HOURLY = Projection(
    name="activity_hourly",
    tables=("activity_hourly", "activity_hourly_users", "activity_hourly_type_users"),
    changes=(
        ChangeTable(
            "activity_hourly_events",
            {
                "tenant_id": "text",
                "hour": "timestamptz",
                "event_type": "text",
                "kafka_partition": "int",
                "events": "bigint",
            },
        ),
        ChangeTable(
            "activity_hourly_seen",
            {"tenant_id": "text", "hour": "timestamptz", "user_id": "text", "kafka_partition": "int", "types": "int"},
        ),
        ChangeTable(
            "activity_hourly_types_seen",
            {
                "tenant_id": "text",
                "hour": "timestamptz",
                "event_type": "text",
                "user_id": "text",
                "kafka_partition": "int",
            },
        ),
    ),
    fold=fold,
    steps=(
        ("activity_hourly_unseen", REMEMBER),
        ("activity_hourly_types_unseen", REMEMBER_OTHERS),
        ("activity_hourly_merged", MERGE),
    ),
)
