"""Temporary files of a run stand in memory where there is room: on a disk, a new database costs 0.1 s and more of CPU.

They are mostly the data of the servers that tests start: some 400 files for each database. pytest's own directories
stay on the disk, because it keeps them for whoever looks after a failure.
"""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
ROOM = 8 << 30  # bytes that must be free there; a run takes less than half
BESIDE = 4 << 30  # bytes of memory that must be left beside these
PREFIX = "footfall-tests-of-"  # and the id of the run's first process

_ours: Path | None = None


def use() -> None:
    """Sets TMPDIR for this process and for what it starts, unless somebody has chosen."""
    global _ours  # noqa: PLW0603 - a process has one TMPDIR
    # What is proven at length may take more than there is room for.
    if "TMPDIR" in os.environ or "FOOTFALL_LONG" in os.environ or not has_room():
        return
    remove_left()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    _ours = MEMORY / f"{PREFIX}{os.getpid()}"
    _ours.mkdir()  # others may enter it: as root, PostgreSQL runs as another user
    os.environ["TMPDIR"] = tempfile.tempdir = str(_ours)


def has_room() -> bool:
    """Whether there is a file system in memory, and memory for it."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        return False
    return shutil.disk_usage(MEMORY).free >= ROOM and psutil.virtual_memory().available >= ROOM + BESIDE


def remove_left() -> None:
    """Removes what runs left that were killed."""
    for path in MEMORY.glob(f"{PREFIX}*"):
        if not psutil.pid_exists(int(path.name.removeprefix(PREFIX))):
            shutil.rmtree(path, ignore_errors=True)


def give_back() -> None:
    """Removes what this run made."""
    if _ours is not None:
        shutil.rmtree(_ours, ignore_errors=True)
