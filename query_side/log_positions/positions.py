"""Positions in the log: those that a query can wait for, and those that the read model has reached."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import asyncpg

from query_side.api.responses import joined_header
from query_side.log_positions.served_history import HISTORY_ID, HISTORY_OF_CHECKPOINT, ServedHistory, served_history
from read_model.names import READ
from web.asgi import Headers
from web.policies.decisions import RefusedError
from web.policies.principal import DEFAULT_TENANT
from web.tenants.position_tokens import PositionTokens

MAX_POSITIONS = 64  # in one request
DEFAULT_WAIT = 5.0  # seconds, if the client asks for no other wait
MAX_WAIT = 30.0  # seconds

BAD_POSITION = f"A position is <partition>-<offset>, such as 3-1207; at most {MAX_POSITIONS}, with commas between."
NO_POSITIONS = "This tenant has no positions here: POSITION_SECRET is not set. Ask without a position."
FOREIGN_POSITION = (
    "A position is the header `Footfall-Position` of the answer to a command of this tenant; at most "
    f"{MAX_POSITIONS}, with commas between."
)

_wait = re.compile(
    rb'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9}(?:\.[0-9]{1,9})?)"?\s*(?:;[^,]*)?(?=,|$)', re.IGNORECASE
).search

# One statement reads the checkpoint and the last number of the ledger in the same snapshot (docs/decisions/0016).
READ_MODEL_STATE = f"""
SELECT c.partition, c.next_offset,
       coalesce((SELECT max(l.number) FROM ops.late_events AS l
                 WHERE l.topic = c.topic AND l.partition = c.partition), 0),
       {HISTORY_ID}, history.ids, history.number
FROM {READ}.checkpoints AS c {HISTORY_OF_CHECKPOINT} WHERE c.topic = $1
"""  # noqa: S608 - composed of constants


class Position(NamedTuple):
    """The position of a record in the log."""

    partition: int
    offset: int


class PartitionProgress(NamedTuple):
    """How far a reader has read a partition: the next offset, and the last number in the ledger of late events."""

    next_offset: int = 0
    late: int = 0


ProgressByPartition = Mapping[int, PartitionProgress]  # by partition; a partition that is not named has not been read

ORIGIN = PartitionProgress()


class ReaderPosition(NamedTuple):
    """A reader's position: its progress, and the tag of its history. None: valid in any history, like the beginning."""

    at: ProgressByPartition
    tag: bytes | None


class ReadModelState(NamedTuple):
    """How far the read model is, in one snapshot, and the history it serves."""

    at: ProgressByPartition
    history: ServedHistory

    def reader_position(self) -> ReaderPosition:
        """Returns the position of a reader that has read everything."""
        return ReaderPosition(self.at, self.history.tag)


LOG_BEGINNING = ReaderPosition({}, None)
UNKNOWN_STATE = ReadModelState({}, ServedHistory())


def has_reached(progress: ProgressByPartition, other: ProgressByPartition) -> bool:
    """Returns whether `progress` is at or beyond `other` in every partition."""
    for partition, mark in other.items():
        mine = progress.get(partition, ORIGIN)
        if mine.next_offset < mark.next_offset or mine.late < mark.late:
            return False
    return True


def not_passed(progress: ProgressByPartition, positions: Iterable[Position]) -> list[Position]:
    """Returns the positions that `progress` has not passed yet."""
    return [asked for asked in positions if progress.get(asked.partition, ORIGIN).next_offset <= asked.offset]


async def read_model_state(pool: asyncpg.Pool, topic: str) -> ReadModelState:
    """Reads how far the read model is now."""
    rows = [tuple(row) for row in await pool.fetch(READ_MODEL_STATE, topic)]
    at = {partition: PartitionProgress(offset, late) for partition, offset, late, *_ in rows}
    return ReadModelState(at, served_history(row[3:] for row in rows))


class TenantPositions:
    """Positions as one tenant names them and may see them (web/tenants/position_tokens.py)."""

    def __init__(self, tokens: PositionTokens, tenant_id: str) -> None:
        self._tokens, self.tenant_id = tokens, tenant_id

    def read(self, text: str) -> Position | None:
        """The position that a text names; None for what is no position of this tenant."""
        found = self._tokens.read(self.tenant_id, text)
        return None if found is None else Position(*found)

    def what_is_no_position(self) -> str:
        """The sentence for a text that is no position of this tenant."""
        if not self._tokens.gives_any(self.tenant_id):
            return NO_POSITIONS
        return BAD_POSITION if self.tenant_id == DEFAULT_TENANT else FOREIGN_POSITION

    def text(self, position: Position) -> str | None:
        """The position's text; None where the tenant gets none."""
        return self._tokens.text(self.tenant_id, *position)


def positions_of(query: bytes, headers: Headers, mine: TenantPositions) -> list[Position]:
    """Returns the positions that a request names in a header or a parameter. Raises RefusedError (400)."""
    given = [value for name, value in parameters(query) if name == "position"]
    line = joined_header(headers, b"footfall-position")
    if line is not None:
        given.append(line.decode("latin-1"))
    if not given:
        return []
    texts = [text.strip() for text in ",".join(given).split(",")]
    found = [position for text in texts if (position := mine.read(text)) is not None]
    if len(found) != len(texts) or len(texts) > MAX_POSITIONS:
        raise RefusedError(400, errors=[mine.what_is_no_position()])
    return found


def parameters(query: bytes) -> list[tuple[str, str]]:
    """Parses the query string without checking it; the route reports what is wrong with it."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")


def without_position(query: bytes) -> bytes:
    """Returns the query string without the parameter `position`, which is not a parameter of any route."""
    if b"position=" not in query:
        return query
    return urlencode(
        [(name, value) for name, value in parameters(query) if name != "position"], encoding="latin-1"
    ).encode()


def wait_of(headers: Headers) -> float:
    """Returns the seconds that the client prefers to wait (`Prefer: wait`, RFC 7240), up to `MAX_WAIT`."""
    match = _wait(joined_header(headers, b"prefer") or b"")
    return DEFAULT_WAIT if match is None else min(float(match[1]), MAX_WAIT)
