"""Reads which catalogues of event types the projectors use: a claim of a partition stores the catalogue's digest."""

import asyncpg

from read_model.connecting.pool import Connection

IN_USE = "SELECT DISTINCT event_types FROM read.checkpoints WHERE event_types IS NOT NULL"


async def event_types_in_use(connection: Connection | asyncpg.Pool) -> set[str]:
    """Returns the digests of the catalogues with which the active generation's partitions are projected."""
    return {row["event_types"] for row in await connection.fetch(IN_USE)}
