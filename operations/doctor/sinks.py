"""What can be wrong with sinks: a partition that stopped. What engines do, they say themselves (docs/sinks.md)."""

from operations.doctor.findings import Finding, well_unless
from read_model.connecting.pool import Connection

SINKS = "SELECT name FROM ops.sinks ORDER BY name"
STOPPED = "SELECT partition, stopped_reason FROM {sink}.checkpoints WHERE stopped_reason IS NOT NULL ORDER BY partition"


async def sink_findings(connection: Connection) -> list[Finding]:
    """Returns what is wrong with sinks; nothing if there are none. Raises errors of asyncpg."""
    names = [row["name"] for row in await connection.fetch(SINKS)]
    found = [
        Finding(
            "sinks",
            "problem",
            f"Partition {row['partition']} of {name} stands still: {row['stopped_reason']}",
            "See the log of that `footfall sink`; once the cause is gone it goes on, or after a restart.",
        )
        for name in names
        for row in await connection.fetch(STOPPED.format(sink=name))
    ]
    return well_unless("sinks", found, f"{len(names)} sinks, and no partition of theirs stopped.") if names else []
