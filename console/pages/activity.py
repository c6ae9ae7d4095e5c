"""`/console/activity` and `/console/live`: what users did, in hours and as it comes."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import msgspec
from litestar import Response, get

from console.asking import AnyRequest, TheConsole
from console.rendering import visible
from query_side.activity.queries import ACTIVITY_HOURLY, TOP_PRODUCTS, activity_hourly, top_products

PRODUCTS_HOURLY = """
SELECT hour, product_id, sum(views)::bigint AS views FROM read.product_views
WHERE tenant_id = $1 AND hour >= $2 AND hour < $3 AND product_id = ANY($4::text[]) GROUP BY hour, product_id
"""
SHOWN_PRODUCTS = 3  # lines of the plot; the table has the sums of all
LABEL = 40  # characters of a product's name beside its line
DAYS = ("1", "7", "30")
TOP = 20
FILTERS = ("userId", "productId", "eventType")  # of the live stream
SHOWN_TYPES = 3  # lines of a plot; the table has all


@get("/console/activity", include_in_schema=False)
async def activity(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Products, types per hour, active users; each with the query and the SQL that made it."""
    asking = console.asking(request)
    days = asking.query.get("days", "1")
    days = days if days in DAYS else "1"
    tenant = (asking.query.get("tenant") if asking.is_operator else None) or asking.principal.tenant_id
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    since = until - timedelta(days=int(days))
    async with console.pool().acquire() as connection:
        products = await top_products(connection, tenant, since, until, TOP)
        hours = await activity_hourly(connection, tenant, since, until, ())
        lines = [each.product_id for each in products[:SHOWN_PRODUCTS]]
        views = await connection.fetch(PRODUCTS_HOURLY, tenant, since, until, lines)
    totals: dict[str, int] = defaultdict(int)
    by_hour: dict[str, dict[str, int]] = defaultdict(dict)
    users: dict[str, int] = defaultdict(int)
    for each in hours:
        totals[each.event_type] += each.events
        by_hour[each.hour][each.event_type] = each.events
        users[each.hour] = max(users[each.hour], each.distinct_users)
    types = sorted(totals, key=lambda name: -totals[name])
    axis = [since + timedelta(hours=number) for number in range(int(days) * 24)]
    keys = [each.strftime("%Y-%m-%dT%H") for each in axis]
    counts = {hour[:13]: found for hour, found in by_hour.items()}
    shown = types[:SHOWN_TYPES]
    at = [each.timestamp() for each in axis]
    columns = {"at": at} | {name: [counts.get(key, {}).get(name, 0) for key in keys] for name in shown}
    viewed = {(row["hour"], row["product_id"]): row["views"] for row in views}
    over_time = {"at": at} | {
        f"{rank}. {visible(name)[:LABEL]}": [viewed.get((hour, name), 0) for hour in axis]
        for rank, name in enumerate(lines, 1)
    }
    seen = {hour[:13]: found for hour, found in users.items()}
    active = {"at": at, "users": [seen.get(key, 0) for key in keys]}
    return asking.page(
        "activity.html",
        days=days,
        choices=DAYS,
        tenant=tenant,
        products=products,
        types=types,
        totals=totals,
        shown=shown,
        columns=msgspec.json.encode(columns).decode(),
        active=msgspec.json.encode(active).decode(),
        over_time=msgspec.json.encode(over_time).decode(),
        sql={
            "products": f"{TOP_PRODUCTS.strip()}\n\n{PRODUCTS_HOURLY.strip()}",
            "hours": ACTIVITY_HOURLY.strip(),
        },
        since=since,
        until=until,
        table=[(hour, by_hour[hour], users[hour]) for hour in sorted(by_hour, reverse=True)][:48],
    )


@get("/console/live", include_in_schema=False)
async def live(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The tail of the log, by the stream that clients have."""
    asking = console.asking(request)
    given = {name: asking.query.get(name, "") for name in FILTERS}
    return asking.page("live.html", types=console.catalogue.names, tenant=asking.principal.tenant_id, given=given)


ACTIVITY_ROUTES = (activity, live)
