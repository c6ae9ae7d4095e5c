"""JSON Schemas that a catalogue asks of payloads. Commands only: what is in the log stays readable.

`jsonschema_rs` is loaded only where a catalogue has such a schema. No schema is fetched from anywhere, and no sentence
shows a value of the payload. Patterns are matched in linear time: whoever can post a payload could stop a process with
it otherwise.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

MAX_SENTENCES = 10  # of one payload
MAX_LENGTH = 200  # characters of one reason
MAX_PATTERN_BYTES = 262_144  # of one compiled pattern; with one of 1 MiB, a payload of 16 KiB takes over a second
NO_PATTERN = " that is matched in linear time (no look-around, no back-reference), and compiles to 256 KiB at most"

PayloadCheck = Callable[[dict[str, Any]], list[str]]


def payload_checks(schemas: Mapping[str, dict[str, Any] | None]) -> Mapping[str, PayloadCheck]:
    """By type, what names every problem of a payload in sentences. Types without a schema are not in it."""
    return {name: _check(schema) for name, schema in schemas.items() if schema}


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Why this is no schema that payloads can be checked with."""
    import jsonschema_rs  # noqa: PLC0415 - only where there is a schema

    try:
        _validator(schema)
    except jsonschema_rs.ValidationError as error:
        where = ".".join(shown(str(part)) for part in error.instance_path)
        reason = _printable(error.message)
        return f"`{where}`: {reason}" + (NO_PATTERN if reason.endswith('"regex"') else "")
    except (jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        return str(getattr(error, "message", error)).splitlines()[0].rstrip(".")
    return None


def _validator(schema: dict[str, Any]) -> Any:
    import jsonschema_rs  # noqa: PLC0415 - only where there is a schema

    linear = jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES)
    return jsonschema_rs.validator_for(
        schema, validate_formats=True, mask="the value", offline=True, pattern_options=linear
    )


def _check(schema: dict[str, Any]) -> PayloadCheck:
    validator = _validator(schema)
    is_valid, errors = validator.is_valid, validator.iter_errors

    def check(payload: dict[str, Any]) -> list[str]:
        return [] if is_valid(payload) else [_sentence(error) for error in islice(errors(payload), MAX_SENTENCES)]

    return check


def _sentence(error: Any) -> str:
    where = ".".join(["payload", *(shown(str(part)) for part in error.instance_path)])
    return f"Field `{where}` is not as its schema says: {_printable(error.message)}."


def _printable(reason: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in reason[:MAX_LENGTH]).rstrip(".")


def shown(name: str) -> str:
    """A field name fit for an answer and a log line: short and printable."""
    return "".join(c if c.isprintable() and c != "`" else "?" for c in name[:40])
