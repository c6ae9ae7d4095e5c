"""`/console/retention`: of the users who came in one week, how many came back in the weeks after it."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from litestar import Response, get

from console.asking import AnyRequest, PageError, TheConsole

WEEKS = 12  # cohorts, this week's among them
LINES = (1, 2, 4)  # weeks later, of the plot; the table has all
RETENTION = """
WITH members AS (
    SELECT user_id, date_trunc('week', first_seen AT TIME ZONE 'UTC')::date AS cohort
    FROM read.user_activity WHERE tenant_id = $1 AND first_seen >= $2
), active AS (
    SELECT DISTINCT user_id, date_trunc('week', hour AT TIME ZONE 'UTC')::date AS week
    FROM read.activity_hourly_users WHERE tenant_id = $1 AND hour >= $2
)
SELECT cohort, (week - cohort) / 7 AS number, count(*) AS users
FROM members JOIN active USING (user_id) WHERE week >= cohort GROUP BY 1, 2 ORDER BY 1, 2
"""


@get("/console/retention", include_in_schema=False)
async def retention(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The cohorts of the last weeks, as a plot and a table, with the SQL."""
    asking = console.asking(request)
    tenant = (asking.query.get("tenant") if asking.is_operator else None) or asking.principal.tenant_id
    today = datetime.now(UTC).date()
    since = today - timedelta(days=today.weekday(), weeks=WEEKS - 1)
    pool = console.operators()  # who was there in which hour is withheld from readers
    if pool is None:
        raise PageError(403, "This console only looks; who came back is read with OPERATOR_DATABASE_URL.")
    async with pool.acquire() as connection:
        rows = await connection.fetch(RETENTION, tenant, datetime(since.year, since.month, since.day, tzinfo=UTC))
    cohorts = by_cohort((row["cohort"], row["number"], row["users"]) for row in rows)
    drawn = columns(cohorts)
    return asking.page(
        "retention.html",
        drawn=bool(drawn["at"]),
        tenant=tenant,
        cohorts=cohorts,
        weeks=WEEKS,
        lines=[label(number) for number in LINES],
        columns=msgspec.json.encode(drawn).decode(),
        sql=RETENTION.strip(),
    )


def by_cohort(rows: Iterable[tuple[date, int, int]]) -> dict[date, dict[int, int]]:
    """Users by the Monday of their first week, and by how many weeks later they were there."""
    found: dict[date, dict[int, int]] = {}
    for cohort, number, users in rows:
        found.setdefault(cohort, {})[number] = users
    return found


def columns(cohorts: dict[date, dict[int, int]]) -> dict[str, list[Any]]:
    """The share of each cohort that came back, in percent; None where that week is not over.

    A cohort of which nothing is over yet is left out.
    """
    this = datetime.now(UTC).date()
    cohorts = {cohort: users for cohort, users in cohorts.items() if cohort + timedelta(weeks=LINES[0] + 1) <= this}
    found: dict[str, list[Any]] = {"at": [datetime(c.year, c.month, c.day, tzinfo=UTC).timestamp() for c in cohorts]}
    for number in LINES:
        found[label(number)] = [
            round(100 * users.get(number, 0) / users[0], 1)
            if users.get(0) and cohort + timedelta(weeks=number + 1) <= this
            else None
            for cohort, users in cohorts.items()
        ]
    return found


def label(number: int) -> str:
    """The name of a line."""
    return "1 week later" if number == 1 else f"{number} weeks later"


RETENTION_ROUTES = (retention,)
