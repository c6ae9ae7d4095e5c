"""Summarises each user: counts of their events, first and last time seen, last login, and whether they are logged in.

A user's events are in one partition; if a producer with another partitioner puts some elsewhere, each partition has its
own row and the view combines them.

`logins`, `logouts` and `product_views` count meanings: what opens a session, closes one, views a product. Types that
these do not name are also counted by themselves, as rows of `user_activity_types`.

Order: the counts, `first_seen` (least) and `last_seen` (greatest timestamp) depend on no order. Everything else follows
the log, not the timestamps: `last_login_at` is the timestamp of the latest opening of a session in the log, `logged_in`
says whether the latest opening or closing was an opening, `last_product_id` is of the latest view of a product.
"""

from collections import Counter
from typing import assert_never

from contracts.types import AS_NAMED, Meaning
from projector.projections.event_batch import EventBatch, UserActions
from projector.projections.projection import ChangeRows, ChangeTable, Projection

# What the columns count, of each type that they are named after.
COUNTED = frozenset((name, meaning) for name, (meaning, _) in AS_NAMED.items())


def fold(batch: EventBatch) -> tuple[ChangeRows, ChangeRows]:
    """Folds new events to one change for each user and partition, and to counts of each user's other types.

    A change has what these events add, and the latest values in log order.
    """
    return [_change(user) for user in batch.users], _other_types(batch) if batch.has_other_types else []


def _other_types(batch: EventBatch) -> ChangeRows:
    counts: Counter[tuple[str, str, int, str, Meaning]] = Counter()
    for key, actions in batch.users:
        counts.update((*key, kind, meaning) for kind, meaning, *_ in actions if (kind, meaning) not in COUNTED)
    return [(*key, counts[key]) for key in sorted(counts)]


def _change(user: UserActions) -> tuple[object, ...]:
    first_seen = last_seen = user.actions[0][2]
    logins = logouts = views = 0
    last_login_at = logged_in = changed_at = last_product_id = last_product_at = None
    for _, meaning, time, _, product, _ in user.actions:
        if time > last_seen:
            last_seen = time
        elif time < first_seen:
            first_seen = time
        match meaning:
            case "views_product":
                views += 1
                if product is not None:
                    last_product_id, last_product_at = product, time
            case "opens_session":
                logins += 1
                logged_in, last_login_at, changed_at = True, time, time
            case "closes_session":
                logouts += 1
                logged_in, changed_at = False, time
            case "nothing":
                pass
            case _:
                assert_never(meaning)
    counts = (first_seen, last_seen, logins, logouts, views)
    return (*user.key, *counts, last_login_at, logged_in, changed_at, last_product_id, last_product_at)


COLUMNS = {
    "tenant_id": "text",
    "user_id": "text",
    "kafka_partition": "int",
    "first_seen": "timestamptz",
    "last_seen": "timestamptz",
    "logins": "bigint",
    "logouts": "bigint",
    "product_views": "bigint",
    "last_login_at": "timestamptz",
    "logged_in": "bool",
    "changed_at": "timestamptz",
    "last_product_id": "text",
    "last_product_at": "timestamptz",
}

MERGE = f"""
    MERGE INTO {{generation}}.user_activity AS stored USING user_activity_changes AS change
    ON stored.tenant_id = change.tenant_id AND stored.user_id = change.user_id
       AND stored.kafka_partition = change.kafka_partition
    WHEN MATCHED THEN UPDATE SET
        first_seen = least(stored.first_seen, change.first_seen),
        last_seen = greatest(stored.last_seen, change.last_seen),
        logins = stored.logins + change.logins,
        logouts = stored.logouts + change.logouts,
        product_views = stored.product_views + change.product_views,
        last_login_at = coalesce(change.last_login_at, stored.last_login_at),
        logged_in = coalesce(change.logged_in, stored.logged_in),
        changed_at = coalesce(change.changed_at, stored.changed_at),
        last_product_id = coalesce(change.last_product_id, stored.last_product_id),
        last_product_at = coalesce(change.last_product_at, stored.last_product_at)
    WHEN NOT MATCHED THEN INSERT ({", ".join(COLUMNS)}) VALUES ({", ".join(f"change.{name}" for name in COLUMNS)})
"""

TYPE_COLUMNS = {
    "tenant_id": "text",
    "user_id": "text",
    "kafka_partition": "int",
    "event_type": "text",
    "meaning": "text",
    "events": "bigint",
}

MERGE_TYPES = f"""
    MERGE INTO {{generation}}.user_activity_types AS stored USING user_activity_types_changes AS change
    ON stored.tenant_id = change.tenant_id AND stored.user_id = change.user_id
       AND stored.kafka_partition = change.kafka_partition AND stored.event_type = change.event_type
       AND stored.meaning = change.meaning
    WHEN MATCHED THEN UPDATE SET events = stored.events + change.events
    WHEN NOT MATCHED THEN INSERT ({", ".join(TYPE_COLUMNS)})
        VALUES ({", ".join(f"change.{name}" for name in TYPE_COLUMNS)})
"""

USER_ACTIVITY = Projection(
    name="user_activity",
    tables=("user_activity", "user_activity_types"),
    changes=(
        ChangeTable("user_activity_changes", COLUMNS),
        ChangeTable("user_activity_types_changes", TYPE_COLUMNS),
    ),
    fold=fold,
    steps=(("user_activity_merged", MERGE), ("user_activity_types_merged", MERGE_TYPES)),
)
