"""Positions in the log: what a query may wait for, and where the read model stands."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import asyncpg

from query_side.api.responses import RefusedError, header
from query_side.log_positions.served_history import HISTORY_OF_CHECKPOINT, Serving, serving
from read_model.names import READ
from web.asgi import Scope

MAX_POSITIONS = 64  # in one request
DEFAULT_WAIT = 5.0  # seconds, where the client names no other
MAX_WAIT = 30.0  # seconds

_position = re.compile(r"([0-9]{1,6})-([0-9]{1,18})").fullmatch
_wait = re.compile(
    rb'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9}(?:\.[0-9]{1,9})?)"?\s*(?:;[^,]*)?(?=,|$)', re.IGNORECASE
).search

# The last number of the ledger belongs to the same snapshot as the checkpoint (docs/decisions/0016).
STANDS = f"""
SELECT c.partition, c.next_offset,
       coalesce((SELECT max(l.number) FROM ops.late_events AS l
                 WHERE l.topic = c.topic AND l.partition = c.partition), 0),
       c.topic_id, history.ids, history.number
FROM {READ}.checkpoints AS c {HISTORY_OF_CHECKPOINT} WHERE c.topic = $1
"""  # noqa: S608 - composed of constants


class Position(NamedTuple):
    """A record's place in the log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


class Mark(NamedTuple):
    """How far a partition is read: the next offset, and the last number of its ledger of late events."""

    next_offset: int = 0
    late: int = 0


Vector = Mapping[int, Mark]  # partition to mark; a partition that is not named is not begun

ORIGIN = Mark()


class Place(NamedTuple):
    """Where a reader is, and in which history; None for a place that is in any, such as the beginning."""

    at: Vector
    tag: bytes | None


class Stand(NamedTuple):
    """Where the read model stands, in one snapshot, and in which history."""

    at: Vector
    history: Serving

    def place(self) -> Place:
        """A reader's who has read all there is."""
        return Place(self.at, self.history.tag)


UNBEGUN = Place({}, None)
UNSEEN = Stand({}, Serving())


def passes(vector: Vector, other: Vector) -> bool:
    """Whether `vector` is at `other`, or beyond it, in every partition."""
    for partition, mark in other.items():
        mine = vector.get(partition, ORIGIN)
        if mine.next_offset < mark.next_offset or mine.late < mark.late:
            return False
    return True


def missing(vector: Vector, positions: Iterable[Position]) -> list[Position]:
    """Those of the positions that `vector` has not passed."""
    return [asked for asked in positions if vector.get(asked.partition, ORIGIN).next_offset <= asked.offset]


async def stands(pool: asyncpg.Pool, topic: str) -> Stand:
    """Where the read model stands now."""
    rows = [tuple(row) for row in await pool.fetch(STANDS, topic)]
    at = {partition: Mark(offset, late) for partition, offset, late, *_ in rows}
    return Stand(at, serving(row[3:] for row in rows))


def positions_of(scope: Scope) -> list[Position]:
    """The positions that a request names, by header or parameter. Raises RefusedError, 400."""
    given = [value for name, value in parameters(scope) if name == "position"]
    line = header(scope, b"footfall-position")
    if line is not None:
        given.append(line.decode("latin-1"))
    if not given:
        return []
    texts = [text.strip() for text in ",".join(given).split(",")]
    found = [Position(int(match[1]), int(match[2])) for text in texts if text.isascii() and (match := _position(text))]
    if len(found) != len(texts) or len(texts) > MAX_POSITIONS:
        raise RefusedError(
            400,
            errors=[
                f"A position is <partition>-<offset>, such as 3-1207; at most {MAX_POSITIONS}, with commas between."
            ],
        )
    return found


def parameters(scope: Scope) -> list[tuple[str, str]]:
    """The query string as it came; what is wrong with it is for the route to say."""
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, encoding="latin-1")


def without_position(scope: Scope) -> None:
    """Takes the parameter `position` out of the query string: it is no parameter of any route."""
    query: bytes = scope["query_string"]
    if b"position=" in query:
        kept = [(name, value) for name, value in parameters(scope) if name != "position"]
        scope["query_string"] = urlencode(kept, encoding="latin-1").encode()


def wait_of(scope: Scope) -> float:
    """Seconds that the client is ready to wait (RFC 7240, `Prefer: wait`; a fraction, too), at most `MAX_WAIT`."""
    match = _wait(header(scope, b"prefer") or b"")
    return DEFAULT_WAIT if match is None else min(float(match[1]), MAX_WAIT)
