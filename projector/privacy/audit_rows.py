"""Writes who asked for an erasure into the audit log, in the transaction that applies it (docs/audit.md).

The command side has no database, so it cannot make a pseudonym. The marker says who asked, and names the user already.
"""

from collections.abc import Sequence

from projector.privacy.marker import Marker
from read_model.audit import digest_of, entry_id_of_erasure
from read_model.connecting.pool import Connection

# The function writes an entry once. To look first spares all markers of an erasure but one the lock of the log.
WRITE = """
SELECT ops.write_audit(asked.actor, asked.tenant_id, 'privacy erase', asked.target, asked.digest, 'done',
                       asked.request_id, asked.entry_id)
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::uuid[])
    AS asked(actor, tenant_id, target, digest, request_id, entry_id)
WHERE NOT EXISTS (SELECT FROM ops.audit AS known WHERE known.entry_id = asked.entry_id)
"""
# A generation that is built need not flush its commits, but no row that Kafka anchors may be lost in a crash.
FLUSH = "SET LOCAL synchronous_commit TO DEFAULT"


async def write_audit_rows(connection: Connection, markers: Sequence[Marker]) -> None:
    """Writes one row for each erasure whose marker says who asked, if there is none. Call it last in a transaction."""
    asked = list({m.erasure.erasure_id: m for m in markers if m.actor}.values())
    if not asked:
        return
    written = await connection.fetch(
        WRITE,
        [m.actor for m in asked],
        [m.user[0] for m in asked],
        [f"erasure {m.erasure.erasure_id}" for m in asked],
        [digest_of(*m.user) for m in asked],
        [m.request_id for m in asked],
        [entry_id_of_erasure(m.erasure.erasure_id) for m in asked],
    )
    if written:
        await connection.execute(FLUSH)
