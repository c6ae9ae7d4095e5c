"""Private names that the field's terms replaced do not come back as names of the rooms' code."""

import ast
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, modules

GONE = {
    "news": "event batch", "News": "event batch", "Act": "user action",
    "pulse": "heartbeat", "Pulse": "heartbeat",
    "Orders": "generation limits",
    "letter_trial": "redrive attempt", "LetterTrial": "redrive attempt",
    "Told": "name what it is", "Handed": "pending", "hand_over": "publish_nowait",
    "while_wanted": "cancel on disconnect", "when_gone": "on_disconnect",
    "Takes": "fast handler", "Exchange": "buffered request",
    "lines_of": "encode headers",
    "http_tally": "http metrics", "HttpTally": "http metrics", "HTTP_TALLY": "http metrics",
    "plainly_sound": "fast validation",
    "leash": "parent death", "orphans": "stale processes",
    "curtain": "teardown", "provoke": "triggers",
}  # fmt: skip

# As the name of a module each of these hides what is in it; inside one, it is a word that says what it means there:
# `echo` is what click calls it, `fold` is what a projection does, `since` is a parameter of the feed.
GONE_AS_MODULES = {
    "pace": "rate limiter", "control": "known-good check", "waiting": "pending", "incoming": "request",
    "answers": "responses", "take": "fast handler", "edge": "middleware", "tail": "broadcaster",
    "since": "start position", "fresh": "read your writes", "hours": "hour range", "places": "paths",
    "cast": "cluster", "fold": "reference model", "echo": "duplicates",
}  # fmt: skip

# `footfall gaps` is a command of the public interface, and this is its module.
COMMANDS = {Path("footfall/cli/gaps.py")}


def all_modules() -> list[Path]:
    """The modules of the rooms, and of `chaos/`, where some of the names came from."""
    return [*modules(), *(path.relative_to(ROOT) for path in (ROOT / "chaos").rglob("*.py"))]


def names_in(path: Path) -> set[str | None]:
    """Every identifier of a module: what it defines, imports, names and asks for."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=asname):
                found |= {*name.split("."), asname}
            case _:
                pass
    return found


@pytest.fixture(scope="module")
def named() -> dict[Path, set[str | None]]:
    """Each module to the identifiers in it."""
    return {path: names_in(path) for path in all_modules()}


def test_no_code_has_a_name_that_the_term_of_the_field_replaced(named: dict[Path, set[str | None]]) -> None:
    found = {str(path): sorted(names & GONE.keys()) for path, names in named.items() if names & GONE.keys()}  # type: ignore[type-var]
    assert not found, f"the terms are {GONE}"


def test_no_check_is_called_by_what_it_finds(named: dict[Path, set[str | None]]) -> None:
    """`sound_x` said neither what was checked nor by which rules: it is fast validation, or `checked_x`."""
    assert not {name for names in named.values() for name in names if name and name.startswith("sound_")}


def test_no_module_has_such_a_name() -> None:
    gone = {*GONE, *GONE_AS_MODULES, "gaps"}
    found = {path for path in all_modules() if gone & set(path.with_suffix("").parts)}
    assert found == COMMANDS, f"the terms are {GONE_AS_MODULES}"
