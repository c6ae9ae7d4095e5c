"""Counts the views and the distinct users of each product in each hour.

Distinct users are exact: `product_views_users` remembers for each user and hour the products viewed, in the order of
the log, and only a product that is not in it yet counts. That is half the work of one row for each user, hour and
product, and a third of the space. A user belongs to one partition, so the partitions' numbers can be added up; a user
whose events were put into several partitions counts once in each.

The hour is that of the event's timestamp in UTC. A view without a product (see `product_of`) is not counted here.
"""

from datetime import datetime

from projector.projections.event_batch import SEPARATOR, EventBatch
from projector.projections.projection import ChangeRows, ChangeTable, Projection


def fold(batch: EventBatch) -> tuple[ChangeRows, ChangeRows]:
    """Folds events to views by (tenant, hour, product, partition) and products by (tenant, hour, user, partition)."""
    views: dict[tuple[str, datetime, str, int], int] = {}
    products: dict[tuple[str, datetime, str, int], dict[str, None]] = {}
    for (tenant_id, user_id, partition), actions in batch.users:
        seen: dict[str, None] = {}
        seen_hour: datetime | None = None
        for _, _, _, hour, product, _ in actions:
            if product is None:
                continue
            key = (tenant_id, hour, product, partition)
            views[key] = views.get(key, 0) + 1
            if hour is not seen_hour:
                seen_hour = hour
                seen = products.setdefault((tenant_id, hour, user_id, partition), {})
            seen[product] = None
    return (
        [(*key, views[key]) for key in sorted(views)],
        [(*visit, SEPARATOR.join(products[visit])) for visit in sorted(products)],
    )


# `unnest` keeps the order of its array, so the products stay in log order.
REMEMBER = """
    MERGE INTO {generation}.product_views_users AS stored USING product_views_seen AS change
    ON stored.tenant_id = change.tenant_id AND stored.hour = change.hour AND stored.user_id = change.user_id
       AND stored.kafka_partition = change.kafka_partition
    WHEN MATCHED AND NOT string_to_array(change.products, E'\\x1f') <@ stored.products THEN UPDATE SET
        products = stored.products || ARRAY(
            SELECT product FROM unnest(string_to_array(change.products, E'\\x1f')) AS product
            WHERE product <> ALL (stored.products)
        )
    WHEN NOT MATCHED THEN INSERT (tenant_id, hour, user_id, kafka_partition, products)
        VALUES (change.tenant_id, change.hour, change.user_id, change.kafka_partition,
                string_to_array(change.products, E'\\x1f'))
    RETURNING new.tenant_id, new.hour, new.kafka_partition,
              new.products[coalesce(cardinality(old.products), 0) + 1 :] AS products
"""

MERGE = """
    MERGE INTO {generation}.product_views AS stored USING (
        SELECT tenant_id, hour, product_id, kafka_partition, sum(views)::bigint AS views, sum(users)::bigint AS users
        FROM (
            SELECT tenant_id, hour, product_id, kafka_partition, views, 0 AS users FROM product_views_viewed
            UNION ALL
            SELECT tenant_id, hour, product_id, kafka_partition, 0, 1
            FROM product_views_unseen CROSS JOIN LATERAL unnest(products) AS product_id
        ) AS added
        GROUP BY tenant_id, hour, product_id, kafka_partition
        ORDER BY tenant_id, hour, product_id, kafka_partition
    ) AS change
    ON stored.tenant_id = change.tenant_id AND stored.hour = change.hour AND stored.product_id = change.product_id
       AND stored.kafka_partition = change.kafka_partition
    WHEN MATCHED THEN UPDATE SET views = stored.views + change.views, users = stored.users + change.users
    WHEN NOT MATCHED THEN INSERT (tenant_id, hour, product_id, kafka_partition, views, users)
        VALUES (change.tenant_id, change.hour, change.product_id, change.kafka_partition, change.views, change.users)
"""

PRODUCT_VIEWS = Projection(
    name="product_views",
    tables=("product_views", "product_views_users"),
    changes=(
        ChangeTable(
            "product_views_viewed",
            {
                "tenant_id": "text",
                "hour": "timestamptz",
                "product_id": "text",
                "kafka_partition": "int",
                "views": "bigint",
            },
        ),
        ChangeTable(
            "product_views_seen",
            {
                "tenant_id": "text",
                "hour": "timestamptz",
                "user_id": "text",
                "kafka_partition": "int",
                "products": "text",
            },
        ),
    ),
    fold=fold,
    steps=(("product_views_unseen", REMEMBER), ("product_views_merged", MERGE)),
)
