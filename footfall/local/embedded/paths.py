"""Paths of the embedded stack: the layout of a state directory, and the cache that all of them share."""

import os
from dataclasses import dataclass
from pathlib import Path

from footfall.local.embedded.stack_error import StackError

LOG_ROTATE_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class StatePaths:
    """The files of one state directory (absolute)."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    def broker(self, node: int) -> Path:
        """Returns the home of a broker by its number, from 1."""
        return self.kafka if node == 1 else self.root / f"kafka-{node}"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"


def open_state(state_dir: Path) -> StatePaths:
    """Makes the state directory if it is missing. Raises StackError if this user may not use it."""
    paths = StatePaths(state_dir.expanduser().absolute())
    # When started by root, PostgreSQL runs as another user, which must be able to traverse this directory to its data.
    passable = 0o711 if os.geteuid() == 0 else 0o700
    try:
        paths.root.mkdir(mode=passable, parents=True, exist_ok=True)
        paths.postgres.mkdir(mode=passable, exist_ok=True)
        paths.kafka.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise StackError(f"{error.filename} is a file, not a directory. Move it away or pass --state-dir.") from error
    except PermissionError as error:
        raise not_ours(paths.root) from error
    if not os.access(paths.root, os.R_OK | os.W_OK | os.X_OK):
        raise not_ours(paths.root)
    return paths


def not_ours(path: Path) -> StackError:
    return StackError(
        f"{path} cannot be used by this user (uid {os.geteuid()}){owner_note(path)}. "
        f"Run as its owner, remove it, or pass --state-dir with another directory."
    )


def owner_note(path: Path) -> str:
    try:
        return f"; it belongs to uid {path.stat().st_uid}"
    except OSError:
        return ""


def open_cache() -> Path:
    """Makes the cache directory if it is missing, and returns it. Raises StackError if it cannot be used."""
    cache = cache_root()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"The cache {cache} cannot be made: {error}. Name another in XDG_CACHE_HOME.") from error
    if not os.access(cache, os.R_OK | os.W_OK | os.X_OK):
        raise StackError(f"The cache {cache} is not writable{owner_note(cache)}. Name another in XDG_CACHE_HOME.")
    return cache


def cache_root() -> Path:
    """Returns `$XDG_CACHE_HOME/footfall` or `~/.cache/footfall`: downloads for all states of a user."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return base / "footfall"


def rotate_log(log_path: Path) -> None:
    """Renames a log larger than 10 MiB to `.1`, replacing the previous one, so that logs cannot fill the disk."""
    if log_path.exists() and log_path.stat().st_size > LOG_ROTATE_BYTES:
        log_path.replace(log_path.with_name(log_path.name + ".1"))
