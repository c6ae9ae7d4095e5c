"""An archive in a bucket of S3, or of a server that speaks its protocol. Needs the extra `s3`."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import all_there, at_place
from operations.settings import ArchiveSettings

BLOCK_BYTES = 4 * 1024 * 1024  # that one request reads ahead
PROBE = "exclusive-writes"  # a file that shows that the server refuses to write a name twice

NOT_INSTALLED = (
    "An archive in a bucket needs s3fs: install footfall with the extra `s3`, as in pip install 'footfall[s3]'."
)


class Bucket:
    """An archive below a folder of a bucket. An object appears whole, or not at all."""

    def __init__(self, settings: ArchiveSettings) -> None:
        """Raises ArchiveError if the location names no bucket, or what reaches it is not installed."""
        self._root = _root_of(settings.archive_location)
        self.place = f"s3://{self._root}"
        self._fs = _requests(settings)
        self._staging: tempfile.TemporaryDirectory[str] | None = None

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin with the prefix, in order."""
        with self._errors():
            found = self._fs.find(f"{self._root}/{prefix}")
        return sorted(name.removeprefix(f"{self._root}/") for name in found)

    def read(self, names: list[str]) -> list[bytes]:
        """Returns the content of small files."""
        if not names:
            return []
        with self._errors(), all_there():
            found = self._fs.cat([self._path(name) for name in names])
        return [found[self._path(name)] for name in names]

    def open(self, name: str) -> IO[bytes]:
        """Opens a file to read, at any position. Raises FileNotFoundError."""
        with self._errors(FileNotFoundError):
            file = self._fs.opened(self._path(name), BLOCK_BYTES)
        return cast(IO[bytes], _Named(file, self._errors))

    def new_file(self, name: str) -> Path:
        """Returns where to write a file before it is published: below TMPDIR, readable by its owner only."""
        if self._staging is None:
            self._staging = tempfile.TemporaryDirectory(prefix="footfall-archive-")
        return Path(self._staging.name) / name.rpartition("/")[2]

    def publish(self, written: Path, name: str) -> None:
        """Sends the file; it is visible when all of it has arrived, which a server's 200 alone does not show."""
        with self._errors():
            self._send(written, name)
            if self._size(name) != written.stat().st_size:
                raise OSError(f"its server took {name} and does not have all of it")
            written.unlink()

    def create(self, name: str, content: bytes) -> None:
        """Writes a small file, whole. Raises FileExistsError if the name is taken."""
        with self._errors(FileExistsError):
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except OSError as error:
                from operations.archive.files.s3_failures import is_taken  # noqa: PLC0415 - an extra

                if is_taken(error):
                    raise FileExistsError(name) from error
                raise

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._errors():
            self._fs.rm_file(self._path(name))

    @property
    def keeps_versions(self) -> bool:
        """Whether the bucket was seen to keep, as an older version, what was removed."""
        return bool(self._fs.keeps_versions)

    def check_exclusive(self) -> None:
        """Checks that the server refuses to write a name twice. Raises ArchiveError if it does not."""
        with contextlib.suppress(FileExistsError):
            self.create(PROBE, b"")
        try:
            self.create(PROBE, b"")
        except FileExistsError:
            return
        raise ArchiveError(
            f"The server of {self.place} writes a name twice although it is told not to (If-None-Match), so two runs "
            "at a time could spoil the archive. Use a server that knows conditional writes."
        )

    def close(self) -> None:
        """Removes what was being written."""
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.cleanup()

    def _send(self, written: Path, name: str) -> None:
        try:
            self._fs.put_file(str(written), self._path(name))
        except FileNotFoundError as error:
            from operations.archive.files.s3_failures import is_ended  # noqa: PLC0415 - an extra

            if not is_ended(error) or self._size(name) is None:  # else it is there, and the answer was lost
                raise

    def _size(self, name: str) -> int | None:
        try:
            size: int = self._fs.info(self._path(name))["size"]
        except FileNotFoundError:
            return None
        return size

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _errors(self, *expected: type[OSError]) -> Iterator[None]:
        """Names the place in whatever is wrong with it, the network or the credentials; it quotes no secret."""
        with at_place(self.place, *expected):
            try:
                yield
            except expected:
                raise
            except Exception as error:
                from operations.archive.files.s3_failures import told  # noqa: PLC0415 - an extra

                raise OSError(told(error)) from error


class _Named:
    """A file whose failed reads name the place: bytes that did not come are not bytes that were changed."""

    def __init__(self, file: Any, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._file, self._errors = file, errors

    def __enter__(self) -> "_Named":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Returns so many bytes, or all."""
        with self._errors():
            found: bytes = self._file.read(size)
        return found


def _root_of(location: str) -> str:
    url = urlsplit(location)
    if not url.hostname or url.netloc != url.hostname or url.query or url.fragment:
        raise ArchiveError("ARCHIVE_LOCATION must be s3://bucket/folder, with nothing else in it.")
    return f"{url.netloc}{url.path}".rstrip("/")


def _requests(settings: ArchiveSettings) -> Any:
    try:
        from operations.archive.files import s3_requests  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise ArchiveError(NOT_INSTALLED) from None
    return s3_requests.client(settings)
