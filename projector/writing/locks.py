"""Finds the PostgreSQL lock that a projector waits for. Every role may run the query."""

from projector.liveness.projecting import Lock
from read_model.connecting.pool import Connection
from read_model.generations.register import projector_name

WAITING = """
SELECT coalesce(w.relation::regclass::text, w.locktype) AS target, b.pid, a.usename, a.application_name,
       extract(epoch FROM clock_timestamp() - w.waitstart)::float8 AS since
FROM pg_locks AS w
JOIN pg_stat_activity AS p ON p.pid = w.pid
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
WHERE NOT w.granted AND p.datname = current_database() AND p.application_name = $1
  AND coalesce(a.application_name, '') <> $1
ORDER BY w.waitstart LIMIT 1
"""


async def blocking_lock(connection: Connection, generation: str) -> Lock | None:
    """Returns the lock that a projector of this generation has waited for longest; None if there is none.

    Locks that a projector of the same generation holds do not count.
    """
    row = await connection.fetchrow(WAITING, projector_name(generation))
    if row is None:
        return None
    by = f"session {row['pid']} (user {row['usename']}, application {row['application_name'] or 'unnamed'!r})"
    return Lock(row["target"], by, row["since"] or 0.0)
