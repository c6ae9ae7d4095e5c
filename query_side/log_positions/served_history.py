"""Determines which history of the topic the read model serves, and checks a cursor against it (docs/decisions/0032).

An offset has no identity. After a topic was deleted and created again, and the new history was accepted or a rebuild
promoted, an old cursor would silently skip events. So a cursor carries a short tag of the topic ids it was made under.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from web.policies.decisions import RefusedError

TAG_BYTES = 8
UNTAGGED = b""  # the tag of cursors of earlier versions, and of a read model that does not know its topic's id yet

# Adds to each checkpoint `c` the histories that led to it, and the number of the last one: the history of its topic id,
# and the histories without a topic id (read_model/generations/histories.py, `begin_unnamed`). A topic that was
# rewritten has the same records at the same offsets as the one that it continues: it counts as that one (decision 43).
HISTORY_OF_CHECKPOINT = """
LEFT JOIN LATERAL (
    SELECT array_agg(coalesce(h.continues, h.topic_id)) AS ids, max(h.number) AS number,
           (array_agg(h.continues) FILTER (WHERE h.topic_id = c.topic_id))[1] AS continues FROM ops.histories AS h
    WHERE h.topic = c.topic AND (h.topic_id = c.topic_id OR h.topic_id < '00000000-0000-0000-0000-000000000064')
) AS history ON true
"""
HISTORY_ID = "coalesce(history.continues, c.topic_id) AS topic_id"

GONE = (
    "The log was replaced, and this cursor belongs to the old one, so it is no longer valid. "
    "Start again with since=beginning, since=now or a time."
)


class AnotherHistoryError(RefusedError):
    """A cursor belongs to another history than the one that is served."""

    def __init__(self) -> None:
        super().__init__(410, GONE)


class ServedHistory(NamedTuple):
    """The history that a snapshot of the read model serves. `first`: no earlier history is known."""

    tag: bytes = UNTAGGED
    first: bool = True


def served_history(checkpoints: Iterable[tuple[UUID | None, list[UUID] | None, int | None]]) -> ServedHistory:
    """Returns the history that the checkpoints of one snapshot belong to.

    Usually all checkpoints have the same topic id. They differ while a topic that was created again has partitions that
    the old topic did not have; that mixture counts as a history of its own.

    Args:
        checkpoints: for each, its topic id and the two columns of `HISTORY_OF_CHECKPOINT`.
    """
    found = list(checkpoints)
    topics = {topic_id for topic_id, _, _ in found if topic_id is not None}
    ids = topics.union(*(before or [] for _, before, _ in found))
    if not ids:
        return ServedHistory()
    first = len(topics) <= 1 and max(number or 0 for _, _, number in found) <= 1
    return ServedHistory(blake2b(b"".join(sorted(i.bytes for i in ids)), digest_size=TAG_BYTES).digest(), first)


def check(tag: bytes | None, now: ServedHistory) -> None:
    """Checks a reader's tag against the served history. Raises AnotherHistoryError if they differ.

    The tag None is valid in any history: it belongs to a reader at the beginning.
    """
    if tag is None or tag == now.tag or (tag == UNTAGGED and now.first):
        return
    raise AnotherHistoryError
