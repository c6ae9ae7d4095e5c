"""Aggregates that Valkey keeps for a moment (docs/decisions/0056). Without CACHE_URL nothing is kept.

An answer is kept together with how far the read model was before it was computed. A query without a position may get
one that is CACHE_MAX_AGE_MS old. One with a position gets it only if the answer has seen that position, and if no late
event of its partition came since: those change rows behind a position (docs/decisions/0016).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

import msgspec

from query_side.log_positions.positions import (
    READ_MODEL_STATE,
    PartitionProgress,
    Position,
    ProgressByPartition,
    has_reached,
    not_passed,
)
from query_side.log_positions.read_your_writes import asked_positions
from query_side.log_positions.served_history import served_history
from query_side.settings import QuerySettings
from read_model.connecting.pool import Connection
from telemetry.metrics import KEPT_ANSWERS

if TYPE_CHECKING:
    from query_side.activity.valkey_cache import ValkeyCache

MAX_BYTES = 262_144  # of an answer that is kept

# Databases that share a Valkey share no answer. The key of cursors is known to none but this one and its copies.
STATE = f"""
SELECT s.*, (SELECT name FROM ops.generations WHERE state = 'active') AS generation,
       (SELECT value FROM ops.secrets WHERE name = 'cursors') AS secret,
       (SELECT system_identifier FROM pg_control_system()) AS server, current_database() AS database
FROM ({READ_MODEL_STATE}) AS s
"""  # noqa: S608 - composed of constants

Answer = TypeVar("Answer")
Identity = tuple[object, ...]
Compute = Callable[[], Awaitable[object]]


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What Valkey has. `key`: its own, said again. `at`: by partition, as `PartitionProgress`."""

    key: str
    at: dict[int, tuple[int, int]]
    body: bytes


@dataclass
class Flight:
    """An answer that is being computed, and how far the read model was before."""

    at: ProgressByPartition
    began: float = field(default_factory=time.monotonic)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    body: bytes | None = None  # None at the end: it failed, or its client is gone
    failed: bool = False


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Kept).decode


class KeptAnswers:
    """Answers of one process's queries; other processes with the same Valkey share them."""

    def __init__(self, cache: "ValkeyCache | None", topic: str) -> None:
        self._cache, self._topic = cache, topic
        self._flights: dict[str, Flight] = {}

    async def of(
        self,
        connection: Connection,
        tenant_id: str,
        question: tuple[object, ...],
        kind: type[Answer],
        compute: Callable[[], Awaitable[Answer]],
    ) -> Answer:
        """The answer to a question, kept or computed.

        Args:
            connection: It has passed the positions that the request names.
            tenant_id: Whose data.
            question: What makes two answers differ, all of it.
            kind: The type of the answer.
            compute: Asks PostgreSQL.
        """
        if self._cache is None:
            return await compute()
        now, identity = await self._state(connection)
        key = key_of((*identity, tenant_id, *question))
        found = await self._cache.get(key)
        body = None if found is None else usable(found, key, now, asked_positions())
        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # of another release, or of nobody
            if body is not None:
                answer = msgspec.json.decode(body, type=kind)
                KEPT_ANSWERS.labels("kept").inc()
                return answer
        return msgspec.json.decode(await self._joined(self._cache, key, now, compute), type=kind)

    async def _state(self, connection: Connection) -> tuple[ProgressByPartition, Identity]:
        """How far the read model is, and what it is: its history of the topic, its generation, its database."""
        rows = [tuple(row) for row in await connection.fetch(STATE, self._topic)]
        at = {partition: PartitionProgress(offset, late) for partition, offset, late, *_ in rows}
        return at, (self._topic, served_history(row[3:6] for row in rows).tag, *(rows[0][6:] if rows else ()))

    async def _joined(self, cache: "ValkeyCache", key: str, now: ProgressByPartition, compute: Compute) -> bytes:
        """Waits for one that began late enough, or computes: many who ask at once are one query."""
        while (flight := self._flights.get(key)) is not None and covers(flight.at, now, asked_positions()):
            await flight.done.wait()
            if flight.body is not None:
                KEPT_ANSWERS.labels("joined").inc()
                return flight.body
            if flight.failed:
                break  # each finds out by itself: to wait for one after the other would take too long
        flight = Flight(now)
        body = await self._computed(key, flight, compute)
        if len(body) <= MAX_BYTES:
            at = {partition: (one.next_offset, one.late) for partition, one in now.items()}
            await cache.put(key, _encode(Kept(key, at, body)), time.monotonic() - flight.began)
        return body

    async def _computed(self, key: str, flight: Flight, compute: Compute) -> bytes:
        self._flights[key] = flight
        try:
            flight.body = body = msgspec.json.encode(await compute())
        except Exception:
            flight.failed = True
            raise
        finally:
            flight.done.set()
            if self._flights.get(key) is flight:
                del self._flights[key]
        KEPT_ANSWERS.labels("computed").inc()
        return body


def cache_of(settings: QuerySettings) -> "ValkeyCache | None":
    """None without CACHE_URL."""
    if not settings.cache_url.get_secret_value():
        return None
    from query_side.activity.valkey_cache import ValkeyCache  # noqa: PLC0415 - with the client of Valkey, 0.2 s

    return ValkeyCache(settings.cache_url, settings.cache_max_age_ms)


def key_of(what: tuple[object, ...]) -> str:
    """Names an answer; nothing of it can be read in Valkey."""
    parts = [str(part).encode() for part in what]
    return blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=32).hexdigest()


def usable(found: bytes, key: str, now: ProgressByPartition, asked: Sequence[Position]) -> bytes | None:
    """The body of what Valkey has, if it may be the answer."""
    try:
        kept = _decode(found)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if kept.key != key:
        return None
    at = {partition: PartitionProgress(*each) for partition, each in kept.at.items()}
    return kept.body if covers(at, now, asked) else None


def covers(then: ProgressByPartition, now: ProgressByPartition, asked: Sequence[Position]) -> bool:
    """Whether what was computed at `then` may answer a request at `now`.

    Never what is ahead of the database, which may have been restored to an older state.
    """
    if not has_reached(now, then) or not_passed(then, asked):
        return False
    return all(then[each.partition].late == now[each.partition].late for each in asked)
