"""Builds each user's sessions, from LOGIN to LOGOUT, with their duration and the products seen.

The log's order decides, not the timestamps. What opens a session (LOGIN) begins one, and ends the one before if that is
still open; what closes a session (LOGOUT) ends the open one, and without one it means nothing; a view of a product
(PRODUCT_VIEW) belongs to the open session, or to none. Events of other types are no part of a session.
Of a user whose events are in several partitions these rows tell each partition's part; the view `read.user_sessions`
merges the events instead (migration 0008, docs/producers.md).

`user_sessions_open` holds the open session of each user who has one; `user_sessions` those that ended, and rows there
never change. A batch needs no read: what comes before a user's first opening in it (the *lead*) is merged into the open
session, if PostgreSQL finds one; what the batch itself begins is known.

`products` are the different products seen, in the order they first were. One more than `MAX_PRODUCTS` is kept: it says
that there are more. Views of yet others only count in `views`.
"""

from datetime import datetime
from itertools import islice
from typing import assert_never
from uuid import UUID

import msgspec

from projector.projections.event_batch import SEPARATOR, EventBatch, UserActions, UserKey
from projector.projections.projection import ChangeRows, ChangeTable, Projection

MAX_PRODUCTS = 200  # products that a session shows at most
KEPT_PRODUCTS = MAX_PRODUCTS + 1


class _Stay(msgspec.Struct, gc=False):
    """A session, or the part of one that lies in a batch. `session_id`: the id of the opening event; None: a lead."""

    session_id: UUID | None = None
    started_at: datetime | None = None
    views: int = 0
    products: dict[str, None] = msgspec.field(default_factory=dict)
    ended_at: datetime | None = None
    ended_by: str | None = None  # the type: LOGOUT, or LOGIN: the next one

    def end(self, time: datetime, kind: str) -> None:
        """Ends the session, unless it has ended already."""
        if self.ended_by is None:
            self.ended_at, self.ended_by = time, kind

    def joined_products(self) -> str:
        return SEPARATOR.join(islice(self.products, KEPT_PRODUCTS))


_NONE = _Stay()


def fold(batch: EventBatch) -> tuple[ChangeRows, ChangeRows]:
    """Folds new events to change rows.

    Returns:
        For each user and partition, the lead and the session that is open after these events; and the sessions that
        both began and ended within them.
    """
    changes: list[tuple[object, ...]] = []
    ended: list[tuple[object, ...]] = []
    for user in batch.users:
        lead, *begun = _stays(user)
        open_now = begun.pop() if begun and begun[-1].ended_by is None else _NONE
        changes.append(_change(user.key, lead, open_now))
        ended += sorted(_ended(user.key, stay) for stay in begun)
    return changes, ended


def _stays(user: UserActions) -> list[_Stay]:
    """Returns the lead, then each session that begins in these events."""
    last = _Stay()
    stays = [last]
    for kind, meaning, time, _, product, event_id in user.actions:
        match meaning:
            case "views_product":
                if last.ended_by is None:
                    last.views += 1
                    if product is not None:
                        last.products[product] = None
            case "opens_session":
                last.end(time, kind)
                last = _Stay(event_id, time)
                stays.append(last)
            case "closes_session":
                last.end(time, kind)
            case "nothing":
                pass
            case _:
                assert_never(meaning)
    return stays


def _change(key: UserKey, lead: _Stay, now: _Stay) -> tuple[object, ...]:
    ends = (lead.views, lead.joined_products(), lead.ended_at, lead.ended_by)
    return (*key, *ends, now.session_id, now.started_at, now.views, now.joined_products())


def _ended(key: UserKey, stay: _Stay) -> tuple[object, ...]:
    ends = (stay.started_at, stay.ended_at, stay.ended_by)
    return (*key, stay.session_id, *ends, stay.views, stay.joined_products())


# The products of `row` with those of the lead; `unnest` keeps the order of its array.
PRODUCTS = f"""CASE WHEN change.lead_products = '' THEN {{row}}.products ELSE ({{row}}.products || ARRAY(
            SELECT product FROM unnest(string_to_array(change.lead_products, E'\\x1f')) AS product
            WHERE product <> ALL ({{row}}.products)
        ))[:{KEPT_PRODUCTS}] END"""

# Returns the open sessions as they were, with the lead added, and how it ended; nulls where there was none.
CONTINUE = f"""
    MERGE INTO {{generation}}.user_sessions_open AS stored USING user_sessions_changes AS change
    ON stored.tenant_id = change.tenant_id AND stored.user_id = change.user_id
       AND stored.kafka_partition = change.kafka_partition
    WHEN MATCHED AND change.lead_ended_by IS NULL THEN UPDATE SET
        views = stored.views + change.lead_views,
        products = {PRODUCTS.format(row="stored")}
    WHEN MATCHED AND change.session_id IS NULL THEN DELETE
    WHEN MATCHED THEN UPDATE SET
        session_id = change.session_id, started_at = change.started_at, views = change.views,
        products = string_to_array(change.products, E'\\x1f')
    WHEN NOT MATCHED AND change.session_id IS NOT NULL THEN INSERT
        (tenant_id, user_id, kafka_partition, session_id, started_at, views, products)
        VALUES (change.tenant_id, change.user_id, change.kafka_partition, change.session_id, change.started_at,
                change.views, string_to_array(change.products, E'\\x1f'))
    RETURNING change.tenant_id, change.user_id, change.kafka_partition, old.session_id, old.started_at,
              change.lead_ended_at AS ended_at, change.lead_ended_by AS ended_by,
              old.views + change.lead_views AS views,
              CASE WHEN change.lead_ended_by IS NOT NULL THEN {PRODUCTS.format(row="old")} END AS products
"""

END = """
    INSERT INTO {generation}.user_sessions
        (tenant_id, user_id, kafka_partition, session_id, started_at, ended_at, ended_by, views, products)
    SELECT tenant_id, user_id, kafka_partition, session_id, started_at, ended_at, ended_by, views, products
    FROM user_sessions_left WHERE session_id IS NOT NULL AND ended_by IS NOT NULL
    UNION ALL
    SELECT tenant_id, user_id, kafka_partition, session_id, started_at, ended_at, ended_by, views,
           string_to_array(products, E'\\x1f')
    FROM user_sessions_ended
"""

_KEY = {"tenant_id": "text", "user_id": "text", "kafka_partition": "int"}

USER_SESSIONS = Projection(
    name="user_sessions",
    tables=("user_sessions", "user_sessions_open"),
    changes=(
        ChangeTable(
            "user_sessions_changes",
            {
                **_KEY,
                "lead_views": "bigint",
                "lead_products": "text",
                "lead_ended_at": "timestamptz",
                "lead_ended_by": "text",
                "session_id": "uuid",
                "started_at": "timestamptz",
                "views": "bigint",
                "products": "text",
            },
        ),
        ChangeTable(
            "user_sessions_ended",
            {
                **_KEY,
                "session_id": "uuid",
                "started_at": "timestamptz",
                "ended_at": "timestamptz",
                "ended_by": "text",
                "views": "bigint",
                "products": "text",
            },
        ),
    ),
    fold=fold,
    steps=(("user_sessions_left", CONTINUE), ("user_sessions_finished", END)),
)
