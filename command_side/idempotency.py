"""Retried commands are one event: ids derived from keys, and what this process remembers of the recent ones.

The guarantee and its edges are in docs/idempotency.md. What is remembered here only makes answers better (the same
body for a repeat, 422 for a key that is used twice); that the event is stored once rests on its id.
"""

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import msgspec

from command_side.publishing.event_log import ACKNOWLEDGED, UNKNOWN, Acknowledgement, Outcome, Unknown
from contracts.derived_ids import KeySpace, derived_event_id
from contracts.event import ActivityCommand, create_user_event
from contracts.record import EventRecord, to_record

ENTRY_BYTES = 1_000  # about what Python adds to a remembered record and its key

is_valid_key = re.compile(rb"[!-~]{1,255}").fullmatch
_canonical = msgspec.json.Encoder(order="deterministic").encode


class KeyConflict(msgspec.Struct, frozen=True):
    """The key came with another command before: nothing was published."""


def fingerprint(command: ActivityCommand) -> bytes:
    """SHA-256, as hexadecimal text, of what a repeat must have in common: user, type, payload in any order of keys."""
    text = _canonical((command.user_id, command.event_type, command.payload))
    return hashlib.sha256(text).hexdigest().encode()


class Free(msgspec.Struct, frozen=True, tag=True):
    """Nobody publishes the record, and it is not acknowledged: the next who comes leads."""


FREE = Free()


class Remembered:
    """One key, the record it stands for, and how that stands."""

    __slots__ = ("doubtful", "fingerprint", "record", "size", "standing", "until")

    def __init__(self, record: EventRecord, command_fingerprint: bytes, until: float) -> None:
        self.record = record
        self.fingerprint = command_fingerprint
        self.until = until  # monotonic seconds
        self.size = len(record.value) + ENTRY_BYTES
        self.doubtful = False  # a try ended and nobody knows how: the record may be in the log
        # A future while somebody publishes it: who follows holds it, and an unanswered future has nothing to read.
        self.standing: Free | asyncio.Future[Outcome] | Acknowledgement = FREE

    def claimed(self) -> "Lead | Follow | Settled":
        """The part of whoever comes with the key now."""
        standing = self.standing
        if isinstance(standing, Free):
            return Lead(self)
        if isinstance(standing, ACKNOWLEDGED):
            return Settled(self.record, standing)
        return Follow(self, standing)

    def stands(self, told: Outcome) -> Outcome:
        """What is true now, after `told` was true: meanwhile another may have published the record, or be about to."""
        if isinstance(told, ACKNOWLEDGED):
            return told
        if isinstance(self.standing, ACKNOWLEDGED):
            return self.standing
        return UNKNOWN if self.doubtful or not isinstance(self.standing, Free) else told


class Lead:
    """The caller must publish `record`, and `settle` or `leave`: others may wait for it already."""

    __slots__ = ("_entry", "_outcome", "record")

    def __init__(self, entry: Remembered) -> None:
        self._entry = entry
        self.record = entry.record
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        entry.standing = self._outcome

    def settle(self, outcome: Outcome) -> Outcome:
        """Notes what became of it. Returns what is true of the record, which every follower is told.

        After anything but an acknowledgement, the next repeat publishes the same record. If that one fails, nothing is
        known of the one before it.
        """
        entry = self._entry
        if isinstance(outcome, ACKNOWLEDGED):
            entry.standing = outcome
        else:
            entry.standing = FREE
            entry.doubtful = entry.doubtful or isinstance(outcome, Unknown)
            outcome = UNKNOWN if entry.doubtful else outcome
        self._outcome.set_result(outcome)
        return outcome

    def leave(self) -> None:
        """Does nothing once it is settled. Otherwise nobody knows: the record may be on its way."""
        if not self._outcome.done():
            self.settle(UNKNOWN)

    def stands(self, told: Outcome) -> Outcome:
        """See `Remembered.stands`."""
        return self._entry.stands(told)

    def withdraw(self) -> None:
        """The record is not going to be published. Nobody can follow yet."""
        self._entry.standing = FREE
        self._outcome.cancel()


class Follow(msgspec.Struct, frozen=True):
    """Another publishes the record: the caller waits for the same outcome, which it holds from this moment on."""

    _entry: Remembered
    _outcome: asyncio.Future[Outcome]

    @property
    def record(self) -> EventRecord:
        """The record that the key stands for."""
        return self._entry.record

    def stands(self, told: Outcome) -> Outcome:
        """See `Remembered.stands`."""
        return self._entry.stands(told)

    async def outcome(self) -> Outcome:
        """What became of it. Who is cancelled here takes nothing from the others."""
        return await asyncio.shield(self._outcome)

    def on_outcome(self, call: Callable[[Outcome], None]) -> None:
        """As `outcome`, by a call."""
        self._outcome.add_done_callback(lambda known: call(known.result()))


class Settled(msgspec.Struct, frozen=True):
    """The record was acknowledged before."""

    record: EventRecord
    outcome: Acknowledgement


Claim = Lead | Follow | Settled


class Keyed(msgspec.Struct, frozen=True):
    """A command under its key, with what takes time to find out: done before anything is claimed."""

    event_id: UUID
    fingerprint: bytes
    record: EventRecord


class RecentKeys:
    """The keys of the last `window` seconds, within `max_bytes`; the oldest are forgotten first."""

    def __init__(self, *, max_bytes: int, window: float) -> None:
        self._max_bytes = max_bytes
        self._window = window
        self._entries: OrderedDict[UUID, Remembered] = OrderedDict()
        self._bytes = 0

    def keyed(self, space: KeySpace, key: bytes, command: ActivityCommand, request_id: str) -> Keyed:
        """The command's event under that key: nothing is remembered yet."""
        event_id, print_ = derived_event_id(space, key), fingerprint(command)
        event = create_user_event(command, space.tenant_id, event_id)
        return Keyed(event_id, print_, to_record(event, request_id, print_))

    def claim(self, keyed: Keyed) -> Claim | KeyConflict:
        """The caller's part in the one record of this key. KeyConflict: the key is remembered with another command."""
        now = time.monotonic()
        self._forget(now)
        known = self._entries.get(keyed.event_id)
        if known is None:
            known = Remembered(keyed.record, keyed.fingerprint, now + self._window)
            self._entries[keyed.event_id] = known
            self._bytes += known.size
        elif known.fingerprint != keyed.fingerprint:
            return KeyConflict()
        return known.claimed()

    def release(self, keyed: Keyed, lead: Lead) -> None:
        """Ends a claim whose record is not going to be published, and forgets the key if nobody had it before."""
        lead.withdraw()
        known = self._entries.get(keyed.event_id)
        if known is not None and known.record is keyed.record:
            del self._entries[keyed.event_id]
            self._bytes -= known.size

    def _forget(self, now: float) -> None:
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if oldest.until > now and self._bytes <= self._max_bytes:
                return
            self._entries.popitem(last=False)
            self._bytes -= oldest.size
