"""Per user: how often they did what, when they were first and last seen, and how they stand now.

A user's events are in one partition; if a producer with another partitioner puts some elsewhere, each partition has its
own row and the view combines them.

Order: the counts, `first_seen` (least) and `last_seen` (greatest timestamp) depend on no order. Everything else follows
the log, not the timestamps: `last_login_at` is the timestamp of the latest LOGIN in the log, `logged_in` says whether
the latest LOGIN or LOGOUT was a LOGIN, `last_product_id` is of the latest view of a product.
"""

from projector.projections.event_batch import News, UserNews
from projector.projections.projection import ChangeRows, ChangeTable, Projection


def fold(news: News) -> tuple[ChangeRows]:
    """One change a user and partition: what these events add, and the last of each kind in the log."""
    return ([_change(user) for user in news.users],)


def _change(user: UserNews) -> tuple[object, ...]:
    first_seen = last_seen = user.acts[0][1]
    logins = logouts = views = 0
    last_login_at = logged_in = changed_at = last_product_id = last_product_at = None
    for kind, time, _, product, _ in user.acts:
        if time > last_seen:
            last_seen = time
        elif time < first_seen:
            first_seen = time
        if kind == "PRODUCT_VIEW":
            views += 1
            if product is not None:
                last_product_id, last_product_at = product, time
        elif kind == "LOGIN":
            logins += 1
            logged_in, last_login_at, changed_at = True, time, time
        else:
            logouts += 1
            logged_in, changed_at = False, time
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

USER_ACTIVITY = Projection(
    name="user_activity",
    tables=("user_activity",),
    changes=(ChangeTable("user_activity_changes", COLUMNS),),
    fold=fold,
    steps=(("user_activity_merged", MERGE),),
)
