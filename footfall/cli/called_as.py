"""How this program was called, so that what it advises works when pasted."""

import os
import re
import shutil
import sys
from pathlib import Path

# Our own words in a text, such as `footfall rebuild start`; not a name, nor a path.
NAMES = "up|demo|status|replay|rebuild|dlq|sql|migrate|topics|grant-reporter"
COMMAND = re.compile(rf"(?<![\w./-])footfall (?=({NAMES})\b)")


def program() -> str:
    """`footfall` where that is on PATH and means us; else the path to it, as one types it here."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_short(Path(sys.executable))} -m footfall"
    if called.name != "footfall":  # a test's, or somebody's own program
        return "footfall"
    on_path = shutil.which("footfall")
    if on_path is not None and Path(on_path).resolve() == called.resolve():
        return "footfall"
    return _short(called)


def as_called(text: str) -> str:
    """The text, with each command in it as it works here."""
    return COMMAND.sub(f"{program()} ", text)


def _short(path: Path) -> str:
    """Relative to the working directory, if it lies below it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would leave a virtual environment
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
