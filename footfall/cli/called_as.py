"""Rewrites `footfall ..` in a message to the path by which the user called it, so that the command can be pasted."""

import os
import re
import shutil
import sys
from pathlib import Path

# Matches a command in a text, such as `footfall rebuild start`, and not a role or a path named footfall.
NAMES = (
    "up|demo|console|status|doctor|archive|plan|audit|keys|replay|rebuild|dlq|gaps|privacy|sql|migrate|topics"
    "|grant-reporter|sink"
)
COMMAND = re.compile(rf"(?<![\w./-])footfall (?=({NAMES})\b)")


def program() -> str:
    """Returns `footfall` if that name on PATH is this program, otherwise the path to type in this directory."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_short(Path(sys.executable))} -m footfall"
    if called.name != "footfall":  # called from a test or from another program
        return "footfall"
    on_path = shutil.which("footfall")
    if on_path is not None and Path(on_path).resolve() == called.resolve():
        return "footfall"
    return _short(called)


def as_called(text: str) -> str:
    """Returns the text with each `footfall` command in it replaced by one that works when pasted."""
    return COMMAND.sub(f"{program()} ", text)


def _short(path: Path) -> str:
    """Returns the path relative to the working directory if it lies below it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow a link out of the environment
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
