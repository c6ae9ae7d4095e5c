"""The read model's register of erased subjects: what it says is true whatever a restored key store says."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from projector.privacy.marker import Marker
from read_model.connecting.pool import Connection

# A rewrite of the log changes the topic of an erasure, not whom it is of.
ERASED = """
SELECT erased.subject_id::text AS subject_id, bool_or(erased.destroyed_at IS NOT NULL) AS destroyed,
       coalesce(array_agg(DISTINCT marker.partition) FILTER (WHERE marker.topic = $1), '{}') AS partitions,
       (array_agg(marker.pseudonym ORDER BY marker.applied_at, marker.pseudonym)
           FILTER (WHERE marker.pseudonym IS NOT NULL))[1] AS pseudonym
FROM ops.erased_subjects AS erased LEFT JOIN ops.erasures AS marker USING (erasure_id)
WHERE erased.subject_id = ANY ($2::uuid[]) GROUP BY erased.subject_id
"""
PSEUDONYMS = """
SELECT erasure_id, pseudonym FROM ops.erasures WHERE erasure_id = ANY ($1::uuid[])
GROUP BY erasure_id, pseudonym ORDER BY min(applied_at) DESC
"""
NOTE = """
INSERT INTO ops.erased_subjects (subject_id, erasure_id, tenant_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) ON CONFLICT DO NOTHING
"""


class ErasedSubject(msgspec.Struct, frozen=True):
    """A subject whose marker some generation has applied. `partitions`: those of the markers that were applied.

    `pseudonym`: of its user; None: nobody noted it.
    """

    destroyed: bool
    partitions: Sequence[int]
    pseudonym: bytes | None


async def erased_subjects(connection: Connection, topic: str, subject_ids: Sequence[str]) -> dict[str, ErasedSubject]:
    """Returns those of the subjects that are erased."""
    rows = await connection.fetch(ERASED, topic, subject_ids)
    return {row["subject_id"]: ErasedSubject(row["destroyed"], row["partitions"], row["pseudonym"]) for row in rows}


async def pseudonyms_of(connection: Connection, erasure_ids: Sequence[UUID]) -> list[tuple[UUID, bytes]]:
    """Returns by which pseudonyms the users of erasures are known that some generation has applied.

    Usually it is one for an erasure. Of several the last is what was noted first: when the erasure's key was there.
    """
    return [(row["erasure_id"], row["pseudonym"]) for row in await connection.fetch(PSEUDONYMS, list(erasure_ids))]


async def note_subjects(connection: Connection, markers: Sequence[Marker]) -> None:
    """Registers the subjects of markers, in the transaction that applies these."""
    named = [(subject, marker.erasure) for marker in markers for subject in marker.subject_ids]
    if named:
        subjects, erasures = zip(*named, strict=True)
        await connection.execute(
            NOTE, list(subjects), [each.erasure_id for each in erasures], [each.tenant_id for each in erasures]
        )
