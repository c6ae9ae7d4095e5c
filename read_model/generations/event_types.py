"""Which catalogues of event types the projectors have: each writes the digest of its own when it claims a partition."""

import asyncpg

from read_model.generations.register import Connection

IN_USE = "SELECT DISTINCT event_types FROM read.checkpoints WHERE event_types IS NOT NULL"


async def event_types_in_use(connection: Connection | asyncpg.Pool) -> set[str]:
    """The digests of the catalogues by which the partitions of the active generation are projected."""
    return {row["event_types"] for row in await connection.fetch(IN_USE)}
