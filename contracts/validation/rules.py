"""Bytes in, a valid command or event out, or every problem with them as a sentence.

The fast path is one strict msgspec decode of the structs in `event.py` plus a walk over the payload. Only when that
fails, or leaves a doubt, does the slow path run, which checks the same structs field by field and names every problem.
"""

import re
from datetime import UTC
from typing import Any, get_args

import msgspec

from contracts.event import (
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_DEPTH,
    MAX_TENANT_ID_LENGTH,
    MAX_USER_ID_LENGTH,
    NO_CONTROL_CHARACTERS,
    ActivityCommand,
    EventType,
    UserEvent,
)
from contracts.validation.first_bytes import beginning_of
from contracts.validation.json_text import decoded, text_problems, without_lone_surrogates
from contracts.validation.large_payloads import LARGE_PAYLOAD, without_large_payload
from contracts.validation.payloads import SoundValues, payload_problems, values_are_kept, values_are_sound
from contracts.validation.repeated_keys import repeated_key, surely_repeats_no_key
from contracts.validation.times import surely_no_time_is_cut, with_times_cut
from contracts.versions import NEWEST, UserEventV1, UserEventV2, upcast_v1, upcast_v2

GROWTH = 4  # encoding makes JSON longer by less than this factor; `9e15` becomes 9000000000000000.0

EXPECTATIONS = {
    "eventId": "must be a UUID",
    "userId": f"must be a string of 1 to {MAX_USER_ID_LENGTH} characters without control characters",
    "eventType": f"must be one of {', '.join(get_args(EventType))}",
    "timestamp": "must be an ISO-8601 date and time with an offset, such as 2026-01-31T12:00:00.000Z",
    "payload": "must be a JSON object",
    "tenantId": f"must be 1 to {MAX_TENANT_ID_LENGTH} letters, digits, `.`, `_` or `-`",
    "version": "must be 2.0",
    "_metadata": "must be an object of schema_version (1.0 or 2.0) and migrated_at (a time with an offset, or null)",
}

_without_control_characters = re.compile(NO_CONTROL_CHARACTERS).search
TWICE = "The JSON must be an object; it is a string that holds JSON, so it was encoded twice."
VERSION = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})").fullmatch


class Problems(msgspec.Struct, frozen=True):
    """Why a body or record is not valid: one sentence for each problem, never empty. Holds no value of the input.

    `newer_version`: the event says it is of a version that this code does not know yet; a later release may read it.
    """

    sentences: list[str]
    newer_version: str | None = None


class _Version(msgspec.Struct):
    """Just enough of any event to tell its version."""

    version: str | None = None


Shape = type[ActivityCommand] | type[UserEventV1] | type[UserEventV2]

_command_decoder = msgspec.json.Decoder(ActivityCommand)
_v1_decoder = msgspec.json.Decoder(UserEventV1)
_v2_decoder = msgspec.json.Decoder(UserEventV2)
_version_decoder = msgspec.json.Decoder(_Version)
_encode = msgspec.json.Encoder().encode


def validate_user_event(body: bytes) -> ActivityCommand | Problems:
    """Validates a partial event `{userId, eventType, payload?}`, as a client sends it (JSON, UTF-8).

    A key that is repeated in one object is refused here: parsers differ in which value they keep. So is a number that
    would be rounded. A record that is in the log already keeps the last value, and the nearest double, as it always
    did: history must stay readable.
    """
    try:
        command = _command_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problems(_problems_of_command(body))
    if _is_surely_sound(command, body, values_are_kept) and surely_repeats_no_key(command, body):
        return command
    problems = _problems_of_command(body)  # in doubt: it may be valid all the same
    return Problems(problems) if problems else command


def _problems_of_command(body: bytes) -> list[str]:
    small = without_large_payload(body)
    if small is not None:
        return [*_problems(small, ActivityCommand), LARGE_PAYLOAD]
    return _problems(body, ActivityCommand)


def validate_complete_user_event(value: bytes) -> UserEvent | Problems:
    """Validates a complete event of any version, as a record carries it; it comes back as the newest, in UTC."""
    try:
        event = upcast_v1(_v1_decoder.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        shorter = with_times_cut(value)
        return _validate_other_version(value) if shorter == value else validate_complete_user_event(shorter)
    if not surely_no_time_is_cut(value):
        value = with_times_cut(value)
        event = upcast_v1(_v1_decoder.decode(value))
    return _validated(event, value, UserEventV1)


def _validate_other_version(value: bytes) -> UserEvent | Problems:
    """What is not a sound version 1: a later version, or simply not valid."""
    try:
        version = _version_decoder.decode(value).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problems(_problems(value, UserEventV1))
    if version is None:
        return Problems(_problems(value, UserEventV1))
    if _is_newer(version):
        return Problems([f"The event is of version {version}, which is newer than this release knows."], version)
    try:
        event = upcast_v2(_v2_decoder.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problems(_problems(value, UserEventV2))
    return _validated(event, value, UserEventV2)


def _is_newer(version: str) -> bool:
    match = VERSION(version)
    return match is not None and (int(match[1]), int(match[2])) > NEWEST


def _validated(event: UserEvent, value: bytes, shape: Shape) -> UserEvent | Problems:
    if not _is_surely_sound(event, value):
        problems = _problems(value, shape)
        if problems:
            return Problems(problems)
    return event if event.timestamp.tzinfo is UTC else _in_utc(event)


def _in_utc(event: UserEvent) -> UserEvent | Problems:
    try:
        return msgspec.structs.replace(event, timestamp=event.timestamp.astimezone(UTC))
    except OverflowError:  # year 1 or 9999 with an offset that leaves the calendar
        return Problems(["Field `timestamp` lies outside the years 1 to 9999 in UTC."])


def _is_surely_sound(
    fields: ActivityCommand | UserEvent, raw: bytes, are_sound: SoundValues = values_are_sound
) -> bool:
    """False in any doubt: then the slow path decides. Costs under 1 us for a usual payload."""
    payload = fields.payload
    if raw.find(b"\\u0000") >= 0 or not fields.user_id.isprintable():
        return False
    if len(raw) > MAX_PAYLOAD_BYTES // GROWTH and len(_encode(payload)) > MAX_PAYLOAD_BYTES:
        return False
    return are_sound(payload, raw)


def _problems(raw: bytes, shape: Shape) -> list[str]:
    """Every problem that keeps `raw` from being a valid `shape`; empty when there is none."""
    mended = without_lone_surrogates(raw)
    if mended != raw:
        return [*_problems(mended, shape), "A string contains half of a surrogate pair, which is no character."]
    try:
        fields, problems = decoded(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [malformed(raw, error)]
    if type(fields) is not dict:
        return [TWICE if type(fields) is str and fields.lstrip()[:1] in ("{", "[") else "The JSON must be an object."]
    problems += [*_field_problems(fields, shape), *text_problems(raw, exact=shape is ActivityCommand)]
    if shape is ActivityCommand:
        problems += repetition_problems(raw)
    if type(fields.get("payload")) is dict:
        problems += payload_problems(fields["payload"])
    return problems


def repetition_problems(raw: bytes) -> list[str]:
    """A sentence about a key that is repeated in one object, at any depth; empty when there is none."""
    key = repeated_key(raw)
    return [] if key is None else [f"Key `{_shown(key)}` occurs more than once in one object."]


def malformed(raw: bytes, error: msgspec.DecodeError | UnicodeDecodeError | RecursionError) -> str:
    """What the first bytes show `raw` to be, or else where `error` found it to be malformed."""
    if isinstance(error, RecursionError):
        return f"The JSON is nested deeper than {MAX_PAYLOAD_DEPTH} levels."
    beginning = beginning_of(raw)
    if beginning is not None:
        return f"The JSON is not valid: it begins with {beginning}; it must be plain JSON in UTF-8."
    if isinstance(error, UnicodeDecodeError):
        return "The JSON is not valid UTF-8."
    return f"The JSON is not valid: {_without_prefix(error)}."


def _without_prefix(error: msgspec.DecodeError) -> str:
    return str(error).removeprefix("JSON is malformed: ").replace("Input data", "it")


def _field_problems(fields: dict[str, Any], shape: Shape) -> list[str]:
    known = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    problems = [
        f"Field `{name}` is required: it {EXPECTATIONS[name]}."
        for name, field in known.items()
        if field.required and name not in fields
    ]
    for name, field in known.items():
        if name in fields and not (_fits(fields[name], field.type) and _has_its_pattern(name, fields[name])):
            problems.append(f"Field `{name}` {EXPECTATIONS[name]}.")
    unknown = [name for name in fields if name not in known]
    if unknown:
        shown = ", ".join(f"`{_shown(name)}`" for name in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        problems.append(f"Unknown field {shown}{more}; the fields are {', '.join(known)}.")
    return problems


def _shown(name: str) -> str:
    """A field name fit for an answer and a log line: short and printable."""
    return "".join(c if c.isprintable() and c != "`" else "?" for c in name[:40])


def _has_its_pattern(name: str, value: Any) -> bool:
    return name != "userId" or _without_control_characters(value) is not None


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True
