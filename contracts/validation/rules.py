"""Bytes in, a valid event out, or every problem with them as a sentence; `commands.py` does the same for commands.

The fast path is one strict msgspec decode of the structs in `event.py` plus a walk over the payload. Only when that
fails, or leaves a doubt, does the slow path run, which checks the same structs field by field and names every problem.
A record's event type may be any name: one that the catalogue no longer declares stays readable.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import msgspec

from contracts.event import (
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_DEPTH,
    MAX_TENANT_ID_LENGTH,
    MAX_USER_ID_LENGTH,
    NO_CONTROL_CHARACTERS,
    ActivityCommand,
    UserEvent,
)
from contracts.types import NAME_RULE, is_type_name
from contracts.validation.first_bytes import beginning_of
from contracts.validation.json_text import decoded, text_problems, without_lone_surrogates
from contracts.validation.payload_schemas import shown
from contracts.validation.payloads import ValuesCheck, payload_problems, values_are_surely_valid
from contracts.validation.repeated_keys import repeated_key
from contracts.validation.times import surely_no_time_is_cut, with_times_cut
from contracts.versions import NEWEST, UserEventV1, UserEventV2, upcast_v1, upcast_v2
from contracts.wire.frames import frame_of, unframed

GROWTH = 4  # encoding makes JSON longer by less than this factor; `9e15` becomes 9000000000000000.0

EXPECTATIONS = {
    "eventId": "must be a UUID",
    "userId": f"must be a string of 1 to {MAX_USER_ID_LENGTH} characters without control characters",
    "eventType": f"must be a name of {NAME_RULE}",
    "timestamp": "must be an ISO-8601 date and time with an offset, such as 2026-01-31T12:00:00.000Z",
    "payload": "must be a JSON object",
    "tenantId": f"must be 1 to {MAX_TENANT_ID_LENGTH} letters, digits, `.`, `_` or `-`",
    "version": "must be 2.0",
    "_metadata": "must be an object of schema_version (1.0 or 2.0) and migrated_at (a time with an offset, or null)",
}

_without_control_characters = re.compile(NO_CONTROL_CHARACTERS).search
TWICE = "The JSON must be an object; it is a string that holds JSON, so it was encoded twice."
SEALED = "3.0"  # contracts/sealed/events.py
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


class Rules(msgspec.Struct, frozen=True):
    """What a body or record must be: its shape, which event types there are, and a sentence's end for each field."""

    shape: type[ActivityCommand] | type[UserEventV1] | type[UserEventV2]
    is_event_type: Callable[[str], bool]
    expectations: Mapping[str, str]


def _is_known_form(event_type: str) -> bool:
    return is_type_name(event_type) is not None


RULES_V1 = Rules(UserEventV1, _is_known_form, EXPECTATIONS)
RULES_V2 = Rules(UserEventV2, _is_known_form, EXPECTATIONS)

_v1_decoder = msgspec.json.Decoder(UserEventV1)
_v2_decoder = msgspec.json.Decoder(UserEventV2)
_version_decoder = msgspec.json.Decoder(_Version)
_encode = msgspec.json.Encoder().encode


def validate_complete_user_event(value: bytes) -> UserEvent | Problems:
    """Validates a complete event of any version, framed or not, as a record carries it.

    It comes back as the newest, in UTC.
    """
    try:
        event = upcast_v1(_v1_decoder.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        shorter = with_times_cut(value)
        return _validate_other_version(value) if shorter == value else validate_complete_user_event(shorter)
    if not surely_no_time_is_cut(value):
        value = with_times_cut(value)
        event = upcast_v1(_v1_decoder.decode(value))
    return _validated(event, value, RULES_V1)


def _validate_other_version(value: bytes) -> UserEvent | Problems:
    """What is no valid version 1: a later version, or simply not valid."""
    try:
        version = _version_decoder.decode(value).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _validate_framed(value)
    if version is None:
        return Problems(problems_of(value, RULES_V1))
    if version == SEALED:
        return Problems(
            ["The event is sealed (version 3.0), and was not opened: it is to be read with its key."], version
        )
    if _is_newer(version):
        return Problems([f"The event is of version {version}, which is newer than this release knows."], version)
    try:
        event = upcast_v2(_v2_decoder.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problems(problems_of(value, RULES_V2))
    return _validated(event, value, RULES_V2)


def _validate_framed(value: bytes) -> UserEvent | Problems:
    """What is no JSON: the JSON in a frame, or simply not valid."""
    return validate_complete_user_event(unframed(value)) if frame_of(value) else Problems(problems_of(value, RULES_V1))


def _is_newer(version: str) -> bool:
    match = VERSION(version)
    return match is not None and (int(match[1]), int(match[2])) > NEWEST


def _validated(event: UserEvent, value: bytes, rules: Rules) -> UserEvent | Problems:
    if not (is_surely_valid(event, value) and is_type_name(event.event_type)):
        problems = problems_of(value, rules)
        if problems:
            return Problems(problems)
    return event if event.timestamp.tzinfo is UTC else _in_utc(event)


def _in_utc(event: UserEvent) -> UserEvent | Problems:
    try:
        return msgspec.structs.replace(event, timestamp=event.timestamp.astimezone(UTC))
    except OverflowError:  # year 1 or 9999 with an offset that leaves the calendar
        return Problems(["Field `timestamp` lies outside the years 1 to 9999 in UTC."])


def is_surely_valid(
    fields: ActivityCommand | UserEvent, raw: bytes, are_valid: ValuesCheck = values_are_surely_valid
) -> bool:
    """False in any doubt: then the slow path decides. Costs under 1 us for a usual payload."""
    payload = fields.payload
    if raw.find(b"\\u0000") >= 0 or not fields.user_id.isprintable():
        return False
    if len(raw) > MAX_PAYLOAD_BYTES // GROWTH and len(_encode(payload)) > MAX_PAYLOAD_BYTES:
        return False
    return are_valid(payload, raw)


def problems_of(raw: bytes, rules: Rules) -> list[str]:
    """Every problem that keeps `raw` from being what the rules say, in sentences; empty when there is none."""
    mended = without_lone_surrogates(raw)
    if mended != raw:
        return [*problems_of(mended, rules), "A string contains half of a surrogate pair, which is no character."]
    try:
        fields, problems = decoded(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [malformed(raw, error)]
    if type(fields) is not dict:
        return [TWICE if type(fields) is str and fields.lstrip()[:1] in ("{", "[") else "The JSON must be an object."]
    is_command = rules.shape is ActivityCommand
    problems += [*_field_problems(fields, rules), *text_problems(raw, exact=is_command)]
    if is_command:
        problems += repetition_problems(raw)
    if type(fields.get("payload")) is dict:
        problems += payload_problems(fields["payload"])
    return problems


def repetition_problems(raw: bytes) -> list[str]:
    """A sentence about a key that is repeated in one object, at any depth; empty when there is none."""
    key = repeated_key(raw)
    return [] if key is None else [f"Key `{shown(key)}` occurs more than once in one object."]


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


def _field_problems(fields: dict[str, Any], rules: Rules) -> list[str]:
    known = {field.encode_name: field for field in msgspec.structs.fields(rules.shape)}
    problems = [
        f"Field `{name}` is required: it {rules.expectations[name]}."
        for name, field in known.items()
        if field.required and name not in fields
    ]
    for name, field in known.items():
        if name in fields and not (_fits(fields[name], field.type) and _has_its_pattern(name, fields[name], rules)):
            problems.append(f"Field `{name}` {rules.expectations[name]}.")
    unknown = [name for name in fields if name not in known]
    if unknown:
        first = ", ".join(f"`{shown(name)}`" for name in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        problems.append(f"Unknown field {first}{more}; the fields are {', '.join(known)}.")
    return problems


def _has_its_pattern(name: str, value: str, rules: Rules) -> bool:
    if name == "eventType":
        return rules.is_event_type(value)
    return name != "userId" or _without_control_characters(value) is not None


def is_user_id(text: str) -> bool:
    """Whether it can be the id of a user."""
    return 0 < len(text) <= MAX_USER_ID_LENGTH and _without_control_characters(text) is not None


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True
