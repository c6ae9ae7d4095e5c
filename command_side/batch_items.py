"""A batch's body: split into items within bounds, and each item judged by itself."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from command_side.idempotency import is_valid_key
from contracts.event import ActivityCommand
from contracts.validation.commands import CommandRules
from contracts.validation.large_payloads import LARGE_COMMAND, surely_too_large
from contracts.validation.rules import Problems, malformed, repetition_problems

MAX_ITEMS = 1_000

# What is checked at once, without a look at anything else: what others wait for meanwhile (docs/batches.md).
SLICE_BYTES = 16 * 1024
# A body with more lists, objects and values than so many is not judged as a whole, but in slices.
MAX_PARTS_AT_ONCE = 24_576

BAD_ITEM_KEY = "Field `idempotencyKey` must be a string of 1 to 255 visible ASCII characters."
KEY_NAME = "idempotencyKey"
KEY_FIELD = KEY_NAME.encode()

# An array of at most so many items and one more: what follows is passed over without an object for each.
_Items = msgspec.defstruct(
    "_Items",
    [(f"item_{n}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for n in range(MAX_ITEMS + 1)],
    array_like=True,
)
_split = msgspec.json.Decoder(_Items).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_written_lines = re.compile(rb"\S[^\n]*").finditer


class Valid(msgspec.Struct, frozen=True):
    """An item's command, and its idempotency key if it has one."""

    command: ActivityCommand
    key: bytes | None


def items_of(body: bytes, *, lines: bool) -> list[bytes] | Problems:
    """The items' own JSON, from an array or from lines (NDJSON; empty ones do not count); or why there are none."""
    if lines:
        items = written_lines(body)
    else:
        try:
            found = msgspec.structs.astuple(_split(body))
            items = [bytes(raw) for raw in found if raw is not msgspec.UNSET]
        except msgspec.ValidationError:
            return Problems(["The body must be a JSON array of commands."])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Problems([malformed(body, error)])
    if not items:
        return Problems(["The batch is empty."])
    if len(items) > MAX_ITEMS:
        return Problems([f"The batch has more than {MAX_ITEMS:,} items."])
    return items


def written_lines(body: bytes) -> list[bytes]:
    """The lines that are not empty, as they are, up to one more than are taken. Empty ones cost no object each."""
    found = islice(_written_lines(body), MAX_ITEMS + 1)
    return [body[body.rfind(b"\n", 0, line.start()) + 1 : line.end()] for line in found]


def may_be_judged_at_once(body: bytes, *, lines: bool) -> bool:
    """Whether the whole body is so little work that nobody notices."""
    if len(body) <= MAX_PARTS_AT_ONCE:
        return True
    parts = body.count(b",") + body.count(b"[") + body.count(b"{")
    return parts + (body.count(b"\n") if lines else 0) <= MAX_PARTS_AT_ONCE


def slices(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The items in order, in parts of at most `SLICE_BYTES`, or of one item."""
    begin, size = 0, 0
    for index, item in enumerate(items):
        size += len(item)
        if size > SLICE_BYTES and index > begin:
            yield items[begin:index]
            begin, size = index, len(item)
    yield items[begin:]


def validated(item: bytes, rules: CommandRules) -> Valid | Problems:
    """One item's command and its key, if it has one."""
    if surely_too_large(item):
        return Problems([LARGE_COMMAND])
    key: bytes | None = None
    if KEY_FIELD in item:
        if repetitions := repetition_problems(item):  # without its key it is encoded anew, and they would be gone
            return Problems(repetitions)
        try:
            item, key = without_key(item)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Problems([BAD_ITEM_KEY])
    command = rules.validate(item)
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
