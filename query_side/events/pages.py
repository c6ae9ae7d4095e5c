"""Pages of events and exports of them: keyset by time and id, so that page 10,000 costs what page 1 costs.

What is asked for is always one range of one index, from a place (inclusive) to a place (exclusive). A place is the
index's leading column where there is one (user or product), a time and an event id. Row comparisons and an ORDER BY
that begins with that column leave the planner no other index to follow.
"""

import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec

from query_side.api.pending_bytes import PAGE_BYTES, UNMEASURED, further, size_of
from query_side.events.filters import EventFilter
from query_side.events.queries import copy_lines, get_all_processed_events
from read_model.connecting.pool import Connection

EVERYTHING = EventFilter()

MAX_LOOKED_AT = 2_000  # events of one page, where not each of them is wanted

LEAST_ID, GREATEST_ID = UUID(int=0), UUID(int=2**128 - 1)
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)

# Times travel as text: asyncpg takes the first and the last moment that Python knows for infinity.
# The parameters of every statement, whether it uses the last three or not, are these:
OF_TENANT = "tenant_id = $1"
FROM_PLACE, TO_PLACE = "$2::text::timestamptz, $3::uuid", "$4::text::timestamptz, $5::uuid"
LIMIT, USER, PRODUCT, TYPES = "$6::bigint", "$7::text", "$8::text", "$9::text[]"

PRODUCT_OF = "payload ->> 'productId'"
OF_A_PRODUCT = f"event_type = 'PRODUCT_VIEW' AND length({PRODUCT_OF}) <= 256"  # as the index has it
ONLY_TEXT = "jsonb_typeof(payload -> 'productId') = 'string'"
SAME_PRODUCT = f"payload @> jsonb_build_object('productId', {PRODUCT})"  # which no index knows: the user's is followed
# Where the catalogue declares views of its own: rows whose type's name says nothing of it have their product beside.
AS_NAMED = "meaning = ''"
DECLARED = "product_id <> ''"
SAME_DECLARED = f"""CASE WHEN {AS_NAMED} THEN event_type = 'PRODUCT_VIEW' AND {SAME_PRODUCT}
       ELSE product_id = {PRODUCT} END"""
Form = Literal["all", "bounded", "end"]
UNUSED = "({} IS NULL OR true)"  # gives a parameter its type

_place = struct.Struct(">q16s")  # microseconds since 1970, event id


class Place(NamedTuple):
    """Where an event stands in the order of time."""

    time: datetime
    event_id: UUID

    def packed(self) -> bytes:
        """As a cursor carries it."""
        return _place.pack((self.time - UNIX_EPOCH) // MICROSECOND, self.event_id.bytes)


def unpacked(payload: bytes) -> Place:
    """The place of a genuine cursor."""
    microseconds, event_id = _place.unpack(payload)
    return Place(UNIX_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=event_id))


class Page(NamedTuple):
    """The JSON of each event, and the place of the last one if more follow."""

    events: list[str]
    last: Place | None


class _Identity(msgspec.Struct, rename="camel"):
    event_id: UUID
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]


_identity = msgspec.json.Decoder(_Identity)


async def fetch_page(
    connection: Connection,
    tenant_id: str,
    wanted: EventFilter,
    after: Place | None,
    limit: int,
    *,
    declared: bool = False,
) -> Page:
    """At most `limit` of the tenant's events after that place, in the filter's order; fewer where they are large.

    How large: `PAGE_BYTES`.

    `declared`: whether the catalogue declares views of products of its own.

    Where the filter leaves out some of what its index finds, at most `MAX_LOOKED_AT` events are looked at: the page has
    what was found among them, and ends where the looking ended.
    """
    first = await _fetch(connection, tenant_id, wanted, after, min(limit, UNMEASURED), declared)
    size = sum(map(size_of, first.events))
    count = further(limit, len(first.events), size)
    if first.last is None or len(first.events) < UNMEASURED or not count:
        return first
    rest = await _fetch(connection, tenant_id, wanted, first.last, count, declared)
    for number, event in enumerate(rest.events):
        size += size_of(event)
        if size > PAGE_BYTES and number:
            kept = rest.events[:number]
            return Page(first.events + kept, _place_of(kept[-1]))
    return Page(first.events + rest.events, rest.last)


async def _fetch(
    connection: Connection, tenant_id: str, wanted: EventFilter, after: Place | None, limit: int, declared: bool
) -> Page:
    selective = bool(wanted.event_types) or (wanted.user_id is not None and wanted.product_id is not None)
    form: Form = "bounded" if selective else "all"
    found = arguments(tenant_id, wanted, after, limit + 1)
    rows = await connection.fetch(sql(wanted, form, declared=declared), *found)
    events = [row[0] for row in rows[:limit]]
    if len(rows) > limit:
        return Page(events, _place_of(events[-1]))
    if selective:
        last = await connection.fetchval(sql(wanted, "end", declared=declared), *arguments(tenant_id, wanted, after, 1))
        return Page(events, None if last is None else _place_of(last))
    return Page(events, None)


def _place_of(event: str) -> Place:
    found = _identity.decode(event)
    return Place(found.timestamp.astimezone(UTC), found.event_id)


async def export(
    connection: Connection,
    tenant_id: str,
    wanted: EventFilter,
    sink: Callable[[bytes], Awaitable[None]],
    timeout: float,
    *,
    declared: bool = False,
) -> None:
    """All that the filter lets through, from one snapshot, into `sink`: chunks of whole lines, each an event's JSON."""
    if wanted == EVERYTHING:
        await get_all_processed_events(connection, tenant_id, sink, timeout)
    else:
        chosen = arguments(tenant_id, wanted, None, None)
        await copy_lines(connection, sql(wanted, declared=declared), chosen, sink, timeout)


def sql(wanted: EventFilter, form: Form = "all", *, declared: bool = False) -> str:
    """The statement for a filter."""
    scope = "user" if wanted.user_id is not None else "product" if wanted.product_id is not None else "time"
    also_product = scope == "user" and wanted.product_id is not None
    if scope == "product" and declared:
        return _sql_of_two_ranges(bool(wanted.event_types), wanted.descending, form)
    return _sql(scope, also_product, bool(wanted.event_types), wanted.descending, form, declared)


@lru_cache
def _sql_of_two_ranges(typed: bool, descending: bool, form: Form) -> str:
    """Views whose type's name says so, and views that the catalogue declares: a range of an index each, then merged."""
    most = LIMIT if form == "all" else str(MAX_LOOKED_AT)
    ranges = (
        (f"({PRODUCT_OF})", [OF_A_PRODUCT, ONLY_TEXT, AS_NAMED]),
        ("product_id", [DECLARED]),
    )
    parts = []
    for column, conditions in ranges:
        key = f"{column}, occurred_at, event_id"
        bounds = [f"({key}) >= ({PRODUCT}, {FROM_PLACE})", f"({key}) < ({PRODUCT}, {TO_PLACE})"]
        where = "\n  AND ".join([OF_TENANT, *bounds, *conditions])
        parts.append(
            "(SELECT occurred_at, event_id, event_type, event_json FROM read.processed_events"  # noqa: S608 - constants
            f"\nWHERE {where}\nORDER BY {_ordered(key, descending)} LIMIT {most})"
        )
    order = _ordered("occurred_at, event_id", descending)
    found = f"FROM ({' UNION ALL '.join(parts)}) AS found"
    unused = [UNUSED.format(USER)] + ([] if typed and form != "end" else [UNUSED.format(TYPES)])
    if form != "all":
        looked_at = f"FROM (SELECT * {found}\nORDER BY {order} LIMIT {MAX_LOOKED_AT}) AS looked_at"
        found = looked_at
    chosen = [f"event_type = ANY({TYPES})"] if typed and form != "end" else []
    end = f"OFFSET {MAX_LOOKED_AT - 1} LIMIT {LIMIT}" if form == "end" else f"LIMIT {LIMIT}"
    return f"SELECT event_json {found}\nWHERE {' AND '.join(chosen + unused)}\nORDER BY {order}\n{end}"


def _ordered(key: str, descending: bool) -> str:
    return ", ".join(f"{column} DESC" if descending else column for column in key.split(", "))


@lru_cache
def _sql(scope: str, also_product: bool, typed: bool, descending: bool, form: Form, declared: bool) -> str:
    leading, value = {"user": ("user_id, ", f"{USER}, "), "product": (f"({PRODUCT_OF}), ", f"{PRODUCT}, ")}.get(
        scope, ("", "")
    )
    key = f"{leading}occurred_at, event_id"
    range_of_index = [
        OF_TENANT,
        f"({key}) >= ({value}{FROM_PLACE})",
        f"({key}) < ({value}{TO_PLACE})",
        *([OF_A_PRODUCT, ONLY_TEXT] if scope == "product" else []),
    ]
    chosen = [
        *(_same_product(declared) if also_product else []),
        *([f"event_type = ANY({TYPES})"] if typed else []),
    ]
    named = " ".join([*range_of_index, *([] if form == "end" else chosen)])
    unused = [UNUSED.format(parameter) for parameter in (USER, PRODUCT, TYPES) if parameter not in named]
    order = _ordered(key, descending)
    found = "FROM read.processed_events\nWHERE " + "\n  AND ".join(range_of_index + unused)
    if form == "end":  # the last of what is looked at, if there is so much
        return f"SELECT event_json {found}\nORDER BY {order}\nOFFSET {MAX_LOOKED_AT - 1} LIMIT {LIMIT}"
    if form == "bounded":
        looked_at = f"SELECT * {found}\nORDER BY {order}\nLIMIT {MAX_LOOKED_AT}"
        found = f"FROM ({looked_at}) AS looked_at\nWHERE " + "\n  AND ".join(chosen)
    elif chosen:
        found += "\n  AND " + "\n  AND ".join(chosen)
    return f"SELECT event_json {found}\nORDER BY {order}\nLIMIT {LIMIT}"


def _same_product(declared: bool) -> list[str]:
    return [SAME_DECLARED] if declared else ["event_type = 'PRODUCT_VIEW'", SAME_PRODUCT]


def arguments(tenant_id: str, wanted: EventFilter, after: Place | None, limit: int | None) -> tuple[object, ...]:
    """The parameters for a filter's statement on a tenant's events, after a place or from the beginning."""
    low: tuple[str, UUID] = (wanted.since.isoformat() if wanted.since else "-infinity", LEAST_ID)
    high: tuple[str, UUID] = (wanted.until.isoformat() if wanted.until else "infinity", LEAST_ID)
    if after is not None and wanted.descending:
        high = (after.time.isoformat(), after.event_id)
    elif after is not None:
        low = _just_after(after)
    return (tenant_id, *low, *high, limit, wanted.user_id, wanted.product_id, wanted.event_types)


def _just_after(place: Place) -> tuple[str, UUID]:
    if place.event_id < GREATEST_ID:
        return place.time.isoformat(), UUID(int=place.event_id.int + 1)
    if place.time < LAST_MOMENT:
        return (place.time + MICROSECOND).isoformat(), LEAST_ID
    return "infinity", LEAST_ID
