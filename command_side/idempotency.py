"""Retried commands are one event: ids derived from keys, and what this process remembers of the recent ones.

The guarantee and its edges are in docs/idempotency.md. What is remembered here only makes answers better (the same
body for a repeat, 422 for a key that is used twice); that the event is stored once rests on its id.
"""

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from uuid import UUID

import msgspec

from command_side.event_log import Outcome, Position, PublishError
from contracts.event import DEFAULT_TENANT, ActivityCommand, create_user_event
from contracts.record import EventRecord, to_record

ENTRY_BYTES = 1_000  # about what Python adds to a remembered record and its key

is_valid_key = re.compile(rb"[!-~]{1,255}").fullmatch
_canonical = msgspec.json.Encoder(order="deterministic").encode


class KeyConflict(msgspec.Struct, frozen=True):
    """The key came with another command before: nothing was published."""


def derived_event_id(tenant_id: str, key: bytes) -> UUID:
    """A UUIDv8 (RFC 9562, section 5.8) from the SHA-256 of tenant and key; a tenant's name contains no NUL."""
    digest = hashlib.sha256(b"%b\0%b" % (tenant_id.encode(), key)).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76  # version
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)  # variant


def fingerprint(command: ActivityCommand) -> bytes:
    """SHA-256, as hexadecimal text, of what a repeat must have in common: user, type, payload in any order of keys."""
    text = _canonical((command.user_id, command.event_type, command.payload))
    return hashlib.sha256(text).hexdigest().encode()


class Remembered:
    """One key, the record it stands for, and what became of it."""

    __slots__ = ("_settled", "acknowledged", "fingerprint", "position", "record", "size", "until")

    def __init__(self, record: EventRecord, command_fingerprint: bytes, until: float) -> None:
        self.record = record
        self.fingerprint = command_fingerprint
        self.until = until  # monotonic seconds
        self.size = len(record.value) + ENTRY_BYTES
        self.acknowledged = False
        self.position: Position | None = None
        self._settled: asyncio.Future[PublishError | None] | None = None

    def in_use(self) -> bool:
        """Whether its record is in the log or on its way."""
        return self.acknowledged or self._settled is not None

    def lead(self) -> bool:
        """Whether the caller must publish the record, and then `settle`; otherwise another has it, or had it."""
        if self.in_use():
            return False
        self._settled = asyncio.get_running_loop().create_future()
        return True

    def settle(self, outcome: Outcome) -> None:
        """What became of it. After anything but an acknowledgement, the next repeat publishes the same record."""
        assert self._settled is not None
        failed = outcome if isinstance(outcome, PublishError) else None
        if not isinstance(outcome, PublishError):
            self.acknowledged, self.position = True, outcome
        self._settled.set_result(failed)
        self._settled = None

    async def outcome(self) -> Outcome:
        """What becomes of the record that another publishes."""
        if self._settled is not None:
            failed = await asyncio.shield(self._settled)
            if failed is not None:
                return type(failed)()
        return self.position


class RecentKeys:
    """The keys of the last `window` seconds, within `max_bytes`; the oldest are forgotten first."""

    def __init__(self, *, max_bytes: int, window: float, tenant_id: str = DEFAULT_TENANT) -> None:
        self._max_bytes = max_bytes
        self._window = window
        self._tenant_id = tenant_id
        self._entries: OrderedDict[UUID, Remembered] = OrderedDict()
        self._bytes = 0

    def claim(self, key: bytes, command: ActivityCommand, request_id: str) -> Remembered | KeyConflict:
        """The one record of this key. KeyConflict when the key is remembered with another command."""
        event_id, print_ = derived_event_id(self._tenant_id, key), fingerprint(command)
        now = time.monotonic()
        self._forget(now)
        known = self._entries.get(event_id)
        if known is not None:
            return known if known.fingerprint == print_ else KeyConflict()
        event = create_user_event(command, self._tenant_id, event_id)
        made = Remembered(to_record(event, request_id, print_), print_, now + self._window)
        self._entries[event_id] = made
        self._bytes += made.size
        return made

    def release(self, claimed: Remembered) -> None:
        """Forgets a key that was claimed, but whose record is not going to be published."""
        if not claimed.in_use():
            event_id = UUID(claimed.record.event_id.decode())
            if self._entries.get(event_id) is claimed:
                del self._entries[event_id]
                self._bytes -= claimed.size

    def _forget(self, now: float) -> None:
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if oldest.until > now and self._bytes <= self._max_bytes:
                return
            self._entries.popitem(last=False)
            self._bytes -= oldest.size
