"""Query strings, read strictly: unknown, repeated and malformed parameters are refused with a sentence each."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl, unquote, unquote_to_bytes
from uuid import UUID

import msgspec

from web.policies.decisions import RefusedError

MAX_FIELDS = 50  # `name=value` in one query string
MAX_REPEATS = 40  # of one parameter that may be repeated
MAX_TEXT_LENGTH = 256  # characters of a user id or a product id
DOT_SEGMENTS = (".", "..")  # user ids that no path can carry: clients resolve them before they ask (RFC 3986, 5.2.4)

_control_character = re.compile(r"[\u0000-\u001f\u007f-\u009f]").search
_only_digits = re.compile(r"[0-9]{1,9}").fullmatch
_uuid = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}").fullmatch
_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_beyond_microseconds = re.compile(r"(?<=\.[0-9]{6})[0-9]+").sub
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Parameters:
    """The parameters of one request. Each reader returns a value or notes a sentence; `check` refuses if there are any.

    `single` may come once, `repeatable` up to `MAX_REPEATS` times; what is neither is unknown.
    """

    def __init__(self, query_string: bytes, single: Collection[str], repeatable: Collection[str] = ()) -> None:
        self.problems: list[str] = []
        self._values: dict[str, list[str]] = {}
        for name, value in self._fields(query_string):
            if name in repeatable or name not in self._values:
                self._values.setdefault(name, []).append(value)
            elif name in single:
                self.problems.append(f"Parameter `{name}` is given more than once.")
        known = (*single, *repeatable)
        unknown = [name for name in self._values if name not in known]
        if unknown:
            named = ", ".join(f"`{shown(name)}`" for name in unknown[:5])
            takes = f"this path takes {', '.join(known)}" if known else "this path takes none"
            self.problems.append(f"Unknown parameter {named}; {takes}.")

    def _fields(self, query_string: bytes) -> list[tuple[str, str]]:
        if not query_string:
            return []
        try:
            text = query_string.decode()
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except UnicodeDecodeError:
            raise RefusedError(400, errors=["The query string is not UTF-8."]) from None
        except ValueError:
            raise RefusedError(400, errors=[f"The query string has more than {MAX_FIELDS} parameters."]) from None

    def check(self) -> None:
        """Raises RefusedError, 400, with every sentence noted so far."""
        if self.problems:
            raise RefusedError(400, errors=self.problems)

    def raw(self, name: str) -> str | None:
        """As it came."""
        return self._values[name][0] if name in self._values else None

    def text(self, name: str) -> str | None:
        """1 to 256 characters without control characters."""
        value = self.raw(name)
        if value is not None and not is_name(value):
            self.problems.append(f"Parameter `{name}` must be {NAME_RULE}.")
        return value

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of `choices`."""
        value = self.raw(name)
        if value is not None and value not in choices:
            self.problems.append(f"Parameter `{name}` must be one of {', '.join(choices)}.")
        return default if value is None else value

    def choices(self, name: str, choices: Collection[str]) -> tuple[str, ...]:
        """Any of `choices`, each once, in their order."""
        values = self._values.get(name, [])
        if any(value not in choices for value in values):
            self.problems.append(f"Parameter `{name}` must be one of {', '.join(choices)}.")
        if len(values) > MAX_REPEATS:
            self.problems.append(f"Parameter `{name}` is given more than {MAX_REPEATS} times.")
        return tuple(choice for choice in choices if choice in values)

    def number(self, name: str, most: int) -> int | None:
        """A whole number from 1 to `most`."""
        value = self.raw(name)
        if value is None:
            return None
        number = int(value) if _only_digits(value) and value.isascii() else 0
        if not 1 <= number <= most:
            self.problems.append(f"Parameter `{name}` must be a whole number from 1 to {most}.")
        return number

    def moment(self, name: str) -> datetime | None:
        """A time with an offset, or a date for its first moment in UTC; in UTC.

        What is finer than a microsecond is cut off: rounded, .NET's last moment would be in the year 10000. A time that
        only its offset puts before the first or behind the last moment that there is means that moment.
        """
        value = self.raw(name)
        if value is None:
            return None
        text = value.replace(" ", "+")  # what a `+` that was not escaped has become
        try:
            text = f"{text}T00:00:00Z" if _date(text) else _beyond_microseconds("", text)
            return in_utc(msgspec.convert(text, _Moment))
        except msgspec.ValidationError:
            self.problems.append(
                f"Parameter `{name}` must be a date, or a time with an offset, such as 2026-01-31T12:00:00Z."
            )
            return None

    def span(self) -> tuple[datetime | None, datetime | None]:
        """`from` (inclusive) and `to` (exclusive)."""
        since, until = self.moment("from"), self.moment("to")
        if since is not None and until is not None and since >= until:
            self.problems.append("Parameter `from` must be earlier than `to`.")
        return since, until


FIRST_MOMENT, LAST_MOMENT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC; beyond the calendar, its end."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return FIRST_MOMENT if moment.year == 1 else LAST_MOMENT


NAME_RULE = f"1 to {MAX_TEXT_LENGTH} characters without control characters"


def is_name(text: str) -> bool:
    """Whether it can be a user id or a product id."""
    return 0 < len(text) <= MAX_TEXT_LENGTH and not _control_character(text)


def user_id_of(segment: str | bytes) -> str:
    """The user id that a segment of the path means, percent-encoded. Raises RefusedError, 400, for what can be none."""
    try:
        user_id = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        user_id = ""
    if not is_name(user_id):
        raise RefusedError(400, f"The user id in the path must be {NAME_RULE}, percent-encoded UTF-8.")
    return user_id


def event_id_of(segment: str) -> UUID:
    """The event's id in a segment of a path: 32 hexadecimal digits, with hyphens or without. Raises RefusedError, 400.

    `uuid.UUID` reads braces, `urn:uuid:` and the digits of all scripts, too.
    """
    text = unquote(segment)
    if _uuid(text) is None:
        raise RefusedError(400, "The event id in the path must be a UUID.")
    return UUID(text)


def shown(name: str) -> str:
    """A client's text fit for an answer: short and printable."""
    return "".join(c if c.isprintable() and c != "`" else "?" for c in name[:40])
