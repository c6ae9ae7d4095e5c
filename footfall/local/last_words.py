"""What a process of Footfall was, and what it said last: for whoever reads that everything ended."""

import json
import os
import subprocess
from pathlib import Path

LONGEST_LINE = 300  # characters that are shown
MOST_BYTES = 65_536  # of the end of a log, which may have grown for months


def ended_process(process: "subprocess.Popen[bytes]", log_dir: Path) -> str:
    """Returns its name, how it ended and the last line of its log, in one line.

    Args:
        process: Started as `python -m footfall NAME --port PORT`.
        log_dir: Has its log, `NAME.log` or `NAME-PORT.log`.
    """
    arguments = [str(argument) for argument in process.args]  # type: ignore[union-attr] # a list, as it was started
    name, _, port = arguments[arguments.index("footfall") + 1 :]
    said = last_line(log_dir / f"{name}-{port}.log") or last_line(log_dir / f"{name}.log")
    words = f", its last words: {said}" if said else ""
    return f"the {name} (pid {process.pid}, exit code {process.returncode}{words})"


def last_line(log: Path) -> str:
    """Returns the last line of a log, of JSON what happened and why. Empty: there is none, or no such log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    line = lines[-1] if lines else ""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if isinstance(entry, dict):
        line = " ".join(str(entry[field]) for field in ("event", "error", "detail") if field in entry)
    return line[:LONGEST_LINE]
