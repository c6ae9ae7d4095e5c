"""Where an archive lies: what a directory and a bucket must be able to do, and the directory."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from operations.archive.files.refusal import ArchiveError

PRIVATE = 0o700  # files hold personal data, unless the log is sealed
STAGING = "staging"  # files that are being written, in a directory


class Store(Protocol):
    """Named files that are written once. Names are relative paths with `/`.

    Every method raises ArchiveError if the place cannot be used.
    """

    @property
    def place(self) -> str:
        """Where it is, without any secret."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin with the prefix, in order."""
        ...

    def read(self, names: list[str]) -> list[bytes]:
        """Returns the content of small files."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Opens a file to read, at any position. Raises FileNotFoundError."""
        ...

    def new_file(self, name: str) -> Path:
        """Returns where to write a file before it is published. Nobody takes it for a part of the archive."""
        ...

    def publish(self, written: Path, name: str) -> None:
        """Makes the written file visible, whole, under its name; once this returns, no crash takes it away."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """Writes a small file, whole. Raises FileExistsError if the name is taken, also by somebody at this moment."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        ...

    @property
    def keeps_versions(self) -> bool:
        """Whether the place was seen to keep, as an older version, what was removed."""
        ...

    def check_exclusive(self) -> None:
        """Checks that `create` never replaces a file. Raises ArchiveError if it does."""
        ...

    def close(self) -> None:
        """Ends the use of it, for now."""
        ...


class Directory:
    """An archive in a directory of this machine, or of a file system that it has mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = str(root)
        self.keeps_versions = False

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin with the prefix, in order."""
        with at_place(self.place):
            found = [path for path in (self._root / prefix).rglob("*") if path.is_file()]
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def read(self, names: list[str]) -> list[bytes]:
        """Returns the content of small files."""
        with at_place(self.place), all_there():
            return [(self._root / name).read_bytes() for name in names]

    def open(self, name: str) -> IO[bytes]:
        """Opens a file to read, at any position. Raises FileNotFoundError."""
        with at_place(self.place, FileNotFoundError):
            return (self._root / name).open("rb")

    def new_file(self, name: str) -> Path:
        """Returns where to write a file before it is published."""
        path = self._root / STAGING / name.rpartition("/")[2]
        with at_place(self.place):
            _make(path.parent)
        return path

    def publish(self, written: Path, name: str) -> None:
        """Makes the written file visible: its bytes first, then its name."""
        target = self._root / name
        with at_place(self.place):
            _make(target.parent)
            written.chmod(0o400)
            _sync(written)
            written.rename(target)
            _sync(target.parent)

    def create(self, name: str, content: bytes) -> None:
        """Writes a small file, whole. Raises FileExistsError if the name is taken."""
        # A random name: two containers that share the file system may have the same process id.
        written, target = self.new_file(f"{name}-{secrets.token_hex(8)}"), self._root / name
        with at_place(self.place, FileExistsError):
            _make(target.parent)
            written.write_bytes(content)
            written.chmod(0o400)
            _sync(written)
            try:
                target.hardlink_to(written)  # unlike a rename, it never replaces
            finally:
                written.unlink()
            _sync(target.parent)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with at_place(self.place):
            (self._root / name).unlink(missing_ok=True)

    def check_exclusive(self) -> None:
        """Does nothing: a link never replaces a file, wherever links are known."""

    def close(self) -> None:
        """Does nothing."""


def _make(path: Path) -> None:
    if path.is_dir():
        return
    _make(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=PRIVATE)
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def at_place(place: str, *expected: type[OSError]) -> Iterator[None]:
    """Turns an OSError of the body into an ArchiveError that names the place, unless it is expected."""
    try:
        yield
    except expected:
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ArchiveError(f"The archive at {place} cannot be used: {reason.rstrip('.')}.") from error


@contextlib.contextmanager
def all_there() -> Iterator[None]:
    """Says of a file that is gone although it was listed, or written, a moment before, how that comes."""
    try:
        yield
    except FileNotFoundError as error:
        raise OSError(
            "a file that was there a moment before is not: another command works on it, or a listing is behind. Run "
            "the command again"
        ) from error
