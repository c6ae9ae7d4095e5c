"""Many commands in one request: split the body, validate each item, publish what is valid at once."""

from collections.abc import Sequence

import msgspec

from command_side.event_log import EventLog, Outcome, PublishError, PublishUnknownError
from command_side.idempotency import KeyConflict, RecentKeys, Remembered, is_valid_key
from contracts.event import ActivityCommand
from contracts.record import EventRecord, new_record
from contracts.rules import Problems, repetition_problems, validate_user_event
from contracts.sound_commands import new_records

MAX_ITEMS = 1_000

BAD_ITEM_KEY = "Field `idempotencyKey` must be a string of 1 to 255 visible ASCII characters."
KEY_NAME = "idempotencyKey"
KEY_FIELD = KEY_NAME.encode()

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class NotPublished(msgspec.Struct, frozen=True):
    """A valid item of an atomic batch that has invalid ones."""


class Recorded(msgspec.Struct, frozen=True):
    """An item that became a record, and what became of that."""

    record: EventRecord
    outcome: Outcome


ItemResult = Recorded | Problems | KeyConflict | NotPublished


class Valid(msgspec.Struct, frozen=True):
    """An item's command, and its idempotency key if it has one."""

    command: ActivityCommand
    key: bytes | None


Claim = EventRecord | Remembered | Problems | KeyConflict  # what an item may become, before anything is published


def items_of(body: bytes, *, lines: bool) -> list[bytes] | Problems:
    """The items' own JSON, from an array or from lines (NDJSON; empty ones do not count); or why there are none."""
    if lines:
        items = [line for line in body.split(b"\n") if line.strip()]
    else:
        try:
            items = [bytes(raw) for raw in _split(body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Problems(["The body must be a JSON array of commands."])
    if not items:
        return Problems(["The batch is empty."])
    if len(items) > MAX_ITEMS:
        return Problems([f"The batch has {len(items):,} items; at most {MAX_ITEMS:,} are taken."])
    return items


class Batches:
    """Records batches of activities in a log."""

    def __init__(self, log: EventLog, keys: RecentKeys) -> None:
        self._log = log
        self._keys = keys

    async def handle(
        self, body: bytes, request_id: str, *, lines: bool, atomic: bool
    ) -> Sequence[ItemResult] | Problems:
        """What became of each item of an array or of lines, in order; or why there are none.

        With `atomic` none is published unless all are valid. Raises LogBusyError or LogUnavailableError when the log
        takes nothing at all.
        """
        records = new_records(body, request_id, lines=lines, at_most=MAX_ITEMS)
        if records is not None:
            return list(map(Recorded, records, await self._log.publish_all(records)))
        items = items_of(body, lines=lines)
        if isinstance(items, Problems):
            return items
        return await self._one_by_one(items, request_id, atomic=atomic)

    async def _one_by_one(self, items: Sequence[bytes], request_id: str, *, atomic: bool) -> list[ItemResult]:
        """The items that leave a doubt together: each is judged by itself."""
        checked = [validated(item) for item in items]
        if atomic and any(isinstance(item, Problems) for item in checked):
            return [item if isinstance(item, Problems) else NotPublished() for item in checked]
        claims = [self._claim(item, request_id) for item in checked]
        if atomic and any(isinstance(claim, KeyConflict) for claim in claims):
            for claim in claims:
                if isinstance(claim, Remembered):
                    self._keys.release(claim)
            return [claim if isinstance(claim, KeyConflict) else NotPublished() for claim in claims]
        return await self._publish(claims)

    def _claim(self, item: Valid | Problems, request_id: str) -> Claim:
        if isinstance(item, Problems):
            return item
        if item.key is not None:
            return self._keys.claim(item.key, item.command, request_id)
        return new_record(item.command, request_id)

    async def _publish(self, claims: Sequence[Claim]) -> list[ItemResult]:
        led = [isinstance(claim, Remembered) and claim.lead() for claim in claims]
        leaders = [claim for claim, leads in zip(claims, led, strict=True) if isinstance(claim, Remembered) and leads]
        ours = [
            claim.record if isinstance(claim, Remembered) else claim
            for claim, leads in zip(claims, led, strict=True)
            if isinstance(claim, EventRecord) or (isinstance(claim, Remembered) and leads)
        ]
        try:
            outcomes = await self._log.publish_all(ours)
        except BaseException as error:  # cancelled, perhaps: then the records may be on their way
            for leader in leaders:
                leader.settle(error if isinstance(error, PublishError) else PublishUnknownError())
            raise
        coming = iter(outcomes)
        results: list[ItemResult] = []
        for claim, leads in zip(claims, led, strict=True):
            if isinstance(claim, EventRecord):
                results.append(Recorded(claim, next(coming)))
            elif not isinstance(claim, Remembered):
                results.append(claim)
            elif leads:
                outcome = next(coming)
                claim.settle(outcome)
                results.append(Recorded(claim.record, outcome))
            else:  # another request publishes it, or an item before it in this batch
                results.append(Recorded(claim.record, await claim.outcome()))
        return results


def validated(item: bytes) -> Valid | Problems:
    """One item's command and its key, if it has one."""
    key: bytes | None = None
    if KEY_FIELD in item:
        if repetitions := repetition_problems(item):  # without its key it is encoded anew, and they would be gone
            return Problems(repetitions)
        try:
            item, key = without_key(item)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Problems([BAD_ITEM_KEY])
    command = validate_user_event(item)
    return command if isinstance(command, Problems) else Valid(command, key)


def without_key(item: bytes) -> tuple[bytes, bytes | None]:
    """An item without its `idempotencyKey`, and that. Raises msgspec.DecodeError or a UnicodeError for a bad key."""
    try:
        fields = _fields(item)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return item, None  # no JSON object: the rules name what is wrong with it
    if KEY_NAME not in fields:  # the word stands in a value
        return item, None
    key = _text(fields.pop(KEY_NAME)).encode()
    if not is_valid_key(key):
        raise msgspec.ValidationError
    return _encode(fields), key
