"""Allows one stack for each state directory: a file lock that names its holder."""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from footfall.local.embedded.paths import StatePaths, not_ours
from footfall.local.embedded.stack_error import StackError


@dataclass(frozen=True)
class StateLock:
    """A held lock. Its file is a JSON object: pid, command, started (local time), and the addresses once known."""

    file: IO[str]

    def write(self, **facts: object) -> None:
        """Adds facts for the message to a second process that wants this state."""
        write_facts(self.file, {**read_facts(self.file), **facts})


@contextmanager
def hold_state(paths: StatePaths) -> Iterator[StateLock]:
    """Holds the state during the body. Raises StackError with the holder's name if another process holds it."""
    try:
        file = paths.lock.open("a+", encoding="utf-8")
    except PermissionError as error:
        raise not_ours(paths.lock) from error
    with file:
        try:
            # Python opens files close-on-exec, so no child process keeps the lock after this one ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(held_by(paths.root, read_facts(file))) from error
        write_facts(file, {"pid": os.getpid(), "command": command_line(), "started": local_time()})
        yield StateLock(file)


def announce_front(state_dir: Path, url: str) -> None:
    """Adds the front's address to the facts in the lock's file. Call it inside `embedded_stack`."""
    with (state_dir.expanduser().absolute() / "lock").open("r+", encoding="utf-8") as file:
        write_facts(file, {**read_facts(file), "front": url})


def held_by(root: Path, facts: dict[str, object]) -> str:
    started = str(facts.get("started", ""))[11:19] or "at an unknown time"
    where = f"its front is at {facts['front']}" if "front" in facts else addresses_note(facts)
    return (
        f"{root} is held by process {facts.get('pid', '?')} ({facts.get('command', '?')}), started {started}; "
        f"{where}. Stop it, or pass --state-dir with another directory."
    )


def addresses_note(facts: dict[str, object]) -> str:
    if "kafka" not in facts:
        return "it is still starting"
    return f"Kafka is at {facts['kafka']}, PostgreSQL at {facts.get('postgres')}"


def command_line() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) or sys.executable


def local_time() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def read_facts(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        facts = json.loads(file.read())
    except ValueError:  # empty, or being written at this moment
        return {}
    return facts if isinstance(facts, dict) else {}


def write_facts(file: IO[str], facts: dict[str, object]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(facts, indent=1) + "\n")
    file.flush()
