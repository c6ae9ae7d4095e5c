"""Applies erasure markers: deletes what one generation holds of the users, in the batch's transaction.

Counts by hour and product stay, because they name nobody. Each generation meets the marker in its own turn, so a
rebuild counts the same.
"""

from collections.abc import Sequence

from projector.privacy.audit_rows import write_audit_rows
from projector.privacy.erased_users import stub_id
from projector.privacy.letters import erase_letters
from projector.privacy.marker import Marker
from projector.privacy.unnamed import users_unnamed
from projector.sealed.register import note_subjects
from read_model.connecting.pool import Connection
from read_model.pseudonyms import pseudonym, pseudonym_key

# A function of the owner's: so the projector may delete what is a user's, and nothing else (migration 0014).
ERASE = "SELECT ops.erase_users($1, $2, $3, $4, $5, $6)"
REGISTER = """
INSERT INTO ops.erasures (topic, topic_id, partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at)
SELECT $1, coalesce(here.topic_id, '00000000-0000-0000-0000-000000000000'), marker.* FROM
    unnest($2::int[], $3::bigint[], $4::uuid[], $5::text[], $6::bytea[], $7::timestamptz[])
        AS marker(partition, kafka_offset, erasure_id, tenant_id, pseudonym, requested_at)
JOIN {generation}.checkpoints AS here ON here.topic = $1 AND here.partition = marker.partition
ON CONFLICT DO NOTHING
"""


async def erase(connection: Connection, generation: str, markers: Sequence[Marker]) -> bool:
    """Deletes what the generation holds of these users from before their markers, and registers the markers.

    Where a marker says who asked, the audit log has one row of the erasure, whatever the number of its markers.

    Args:
        connection: a connection in the transaction that moves the checkpoints of the markers' partitions.
        generation: the schema.
        markers: markers of one topic.

    Returns:
        Whether letters were emptied: then who keeps the parked letters in memory has to load them again.
    """
    if not markers:
        return False
    topic = markers[0].topic
    secret = await pseudonym_key(connection)
    # A rebuild knows users that are erased already by their stubs.
    unnamed = await users_unnamed(connection, generation, secret, markers)
    named = [(m, {m.user[1], stub_id(secret, m.user), *m.stubs, *unnamed.get(m, ())}) for m in markers]
    gone = [((m.user[0], name), m) for m, names in named for name in names]
    await connection.execute(
        ERASE,
        generation,
        [user[0] for user, _ in gone],
        [user[1] for user, _ in gone],
        [m.partition for _, m in gone],
        [m.offset for _, m in gone],
        topic,
    )
    letters = gone + [((m.user[0], subject), m) for m in markers for subject in m.subject_ids]  # by their keys
    emptied = await erase_letters(connection, generation, topic, [(user, m.partition, m.offset) for user, m in letters])
    await connection.execute(
        REGISTER.format(generation=generation),
        topic,
        [m.partition for m in markers],
        [m.offset for m in markers],
        [m.erasure.erasure_id for m in markers],
        [m.user[0] for m in markers],
        [m.pseudonym or pseudonym(secret, *m.user) for m in markers],
        [m.erasure.requested_at for m in markers],
    )
    await note_subjects(connection, markers)
    await write_audit_rows(connection, markers)  # last: it takes the lock of the audit log
    return emptied
