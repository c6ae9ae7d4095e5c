"""Writes `docs/log-events.md` from the source: every event that a process may log, its levels, fields and modules."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "log-events.md"
NO_ROOMS = {"bench", "chaos", "tests"}
LEVELS = ("debug", "info", "warning", "error", "exception")
WITHOUT = {"exc_info"}  # its own field `exception`, of every line that has one
HEAD = """# Log events

Every line of a log is one JSON object, on standard error: `timestamp` (UTC), `level`, `logger`, `event`, and the
fields of the event. A line of a request has `request_id`, and `trace_id` where there is one. A line about an error of
the program has `exception`. No line has a payload, a secret, or a user whose events they are; `LOG_LEVEL` is in
[settings](settings.md). Lines of the libraries come at `warning` and above in the same form. What must be kept whole is
in the [audit log](audit.md), not here.

A process writes no log file: [sending them away](running.md#logs) and keeping them is yours. This page is generated
from the source.

| event | level | fields | logged by |
|---|---|---|---|
"""


class LogCall(msgspec.Struct, frozen=True):
    """One call in the source that logs an event. `fields`: their names; `..` stands for those that a mapping adds."""

    event: str
    level: str
    fields: tuple[str, ...]
    module: str


def log_calls(room: Path) -> Iterator[LogCall]:
    """Finds the calls in all modules below a directory. An event's name is a text, or one of two in a conditional."""
    for path in sorted(room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_log(node.func):
                fields = tuple(each.arg or ".." for each in node.keywords if each.arg not in WITHOUT)
                for event in _names(node.args[0]) if node.args else ():
                    yield LogCall(event, node.func.attr, fields, str(path.relative_to(ROOT)))


def _is_log(called: ast.Attribute) -> bool:
    receiver = called.value
    if isinstance(receiver, ast.Call):
        return called.attr in LEVELS and isinstance(receiver.func, ast.Name) and receiver.func.id == "get_logger"
    name = getattr(receiver, "attr", None) or getattr(receiver, "id", None)  # `self._log`, or `log`
    return called.attr in LEVELS and name in ("log", "_log", "logger", "_logger")


def _names(argument: ast.expr) -> list[str]:
    if isinstance(argument, ast.IfExp):
        return [*_names(argument.body), *_names(argument.orelse)]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    raise ValueError(f"A log event needs a name that the source says: {ast.unparse(argument)}")


def rendered() -> bytes:
    """Returns the page. Raises ValueError if an event's name is computed."""
    by_event: dict[str, list[LogCall]] = defaultdict(list)
    for room in sorted(path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in NO_ROOMS):
        for call in log_calls(room):
            by_event[call.event].append(call)
    return (HEAD + "".join(_row(event, by_event[event]) for event in sorted(by_event))).encode()


def _row(event: str, calls: list[LogCall]) -> str:
    levels = ", ".join(sorted({each.level for each in calls}, key=LEVELS.index))
    fields = ", ".join(f"`{name}`" for name in dict.fromkeys(name for each in calls for name in each.fields))
    modules = ", ".join(f"`{name}`" for name in dict.fromkeys(each.module for each in calls))
    return f"| `{event}` | {levels} | {fields} | {modules} |\n"
