"""Templates, and how values look in them."""

import html
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jinja2

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {"content-security-policy": CONTENT_SECURITY_POLICY}
UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
# A right-to-left override can show a text backwards, also outside its element: these are shown as their names.
HIDDEN = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x20),
        0x7F,
        *range(0x80, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
    if code not in (0x09, 0x0A)
}


@cache
def environment() -> jinja2.Environment:
    """Escapes everything, and refuses a name that no page gave."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "prose": prose,
        "stamp": stamp,
        "count": count,
        "ago": ago,
        "span": span,
        "moment": moment,
        "visible": visible,
        "share": share,
        "size": size,
    }
    found.filters.update(filters)
    return found


def rendered(template: str, **given: Any) -> str:
    """The text of a template."""
    return environment().get_template(template).render(**given)


def count(number: float | None) -> str:
    """A number of things."""
    return (
        "–" if number is None else f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{number:,.1f}"
    )


def share(part: float | None) -> str:
    """A share, as a percentage that says 100 only if it is all."""
    return "–" if part is None else "100 %" if part >= 1 else f"{min(part * 100, 99.9):.1f} %"


def span(seconds: float | None) -> str:
    """A length of time, in its largest unit."""
    if seconds is None:
        return "–"
    for unit, name in UNITS:
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}" if seconds / unit >= 10 else f"{seconds / unit:.1f} {name}"
    return "0 s" if seconds <= 0 else f"{seconds * 1000:.0f} ms"


def ago(at: datetime | None) -> str:
    """How long ago."""
    return "never" if at is None else f"{span(max(0.0, (datetime.now(UTC) - at).total_seconds()))} ago"


def moment(at: datetime | None) -> str:
    """A moment in UTC."""
    return "–" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def prose(text: str) -> str:
    """A sentence of ours as HTML, what it quotes in backticks as code; whatever else is in it is text."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(visible(text)))


def stamp(text: str | None) -> str:
    """A moment as JSON has it, to the second, as `moment` shows it."""
    return "–" if text is None else text[:19].replace("T", " ")


def size(number: float | None) -> str:
    """Bytes, in a unit that reads well."""
    if number is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def visible(text: object) -> str:
    """A foreign text with what cannot be seen, or changes how the rest is read, spelt out."""
    return "" if text is None else str(text).translate(HIDDEN)
