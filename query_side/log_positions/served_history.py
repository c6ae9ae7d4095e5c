"""Which history of the topic the read model serves, and whether a cursor was made in it (docs/decisions/0032).

An offset has no identity: after a topic was made anew, and its rebuild promoted or it was accepted, an old cursor would
skip events of the new history without a word. So a cursor carries a short tag of the topic ids that it was made under.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from query_side.api.responses import RefusedError

TAG_BYTES = 8
UNTAGGED = b""  # cursors of earlier versions, and of a read model that does not know its topic's id yet

# Of each checkpoint `c`: the histories that led to it, its topic's and those that we named ourselves
# (read_model/generations/histories.py, `begin_unnamed`), and the number of the last.
HISTORY_OF_CHECKPOINT = """
LEFT JOIN LATERAL (
    SELECT array_agg(h.topic_id) AS ids, max(h.number) AS number FROM ops.histories AS h
    WHERE h.topic = c.topic AND (h.topic_id = c.topic_id OR h.topic_id < '00000000-0000-0000-0000-000000000064')
) AS history ON true
"""

GONE = (
    "This cursor belongs to another history of the log, which was replaced; its positions mean nothing in this one. "
    "Begin again with since=beginning, since=now or a time."
)


class AnotherHistoryError(RefusedError):
    """A cursor is of another history than the one that is served."""

    def __init__(self) -> None:
        super().__init__(410, GONE)


class Serving(NamedTuple):
    """The history that a snapshot of the read model is of. `first`: no other is known to have come before it."""

    tag: bytes = UNTAGGED
    first: bool = True


def serving(checkpoints: Iterable[tuple[UUID | None, list[UUID] | None, int | None]]) -> Serving:
    """Of each checkpoint its topic's id, and what `HISTORY_OF_CHECKPOINT` says: the same of all, as a rule.

    Not so while a topic made anew has partitions that the old one did not have: that is a history of its own.
    """
    found = list(checkpoints)
    topics = {topic_id for topic_id, _, _ in found if topic_id is not None}
    ids = topics.union(*(before or [] for _, before, _ in found))
    if not ids:
        return Serving()
    first = len(topics) <= 1 and max(number or 0 for _, _, number in found) <= 1
    return Serving(blake2b(b"".join(sorted(i.bytes for i in ids)), digest_size=TAG_BYTES).digest(), first)


def check(tag: bytes | None, now: Serving) -> None:
    """Raises AnotherHistoryError for a place of another history. None: a place in any, such as the beginning."""
    if tag is None or tag == now.tag or (tag == UNTAGGED and now.first):
        return
    raise AnotherHistoryError
