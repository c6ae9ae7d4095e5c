"""The read model's register of erased subjects: what it says is true whatever a restored key store says."""

from collections.abc import Sequence

import msgspec

from projector.privacy.marker import Marker
from projector.writing.connection import Connection

ERASED = """
SELECT erased.subject_id::text AS subject_id, bool_or(erased.destroyed_at IS NOT NULL) AS destroyed,
       array_remove(array_agg(DISTINCT marker.partition), NULL) AS partitions
FROM ops.erased_subjects AS erased
LEFT JOIN ops.erasures AS marker ON marker.erasure_id = erased.erasure_id AND marker.topic = $1
WHERE erased.subject_id = ANY ($2::uuid[]) GROUP BY erased.subject_id
"""
NOTE = """
INSERT INTO ops.erased_subjects (subject_id, erasure_id, tenant_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) ON CONFLICT DO NOTHING
"""


class ErasedSubject(msgspec.Struct, frozen=True):
    """A subject whose marker some generation has applied. `partitions`: those of the markers that were applied."""

    destroyed: bool
    partitions: Sequence[int]


async def erased_subjects(connection: Connection, topic: str, subject_ids: Sequence[str]) -> dict[str, ErasedSubject]:
    """Returns those of the subjects that are erased."""
    rows = await connection.fetch(ERASED, topic, subject_ids)
    return {row["subject_id"]: ErasedSubject(row["destroyed"], row["partitions"]) for row in rows}


async def note_subjects(connection: Connection, markers: Sequence[Marker]) -> None:
    """Registers the subjects of markers, in the transaction that applies these."""
    named = [(subject, marker.erasure) for marker in markers for subject in marker.subject_ids]
    if named:
        subjects, erasures = zip(*named, strict=True)
        await connection.execute(
            NOTE, list(subjects), [each.erasure_id for each in erasures], [each.tenant_id for each in erasures]
        )
