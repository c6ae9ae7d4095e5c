"""A disk of a test's own, to fill without harm to others: a file system in memory, which root may resize."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZE = 1 << 30  # bytes; those that are not used are nobody's memory
SPARED = (0, 100_000, 1_000_000, 4_000_000)  # bytes left: it cannot shrink below what servers write meanwhile

FILLER = "filler"


@dataclass(frozen=True)
class SmallDisk:
    """The directory that it is mounted on."""

    path: Path

    def fill(self) -> None:
        """Not a page more can be written."""
        assert any(_resize(self.path, shutil.disk_usage(self.path).used + spared) for spared in SPARED)
        with suppress(OSError), (self.path / FILLER).open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass

    def extend(self) -> None:
        """There is room again."""
        assert _resize(self.path, SIZE)
        (self.path / FILLER).unlink()


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mounts one for the body. Skips the test where nobody may."""
    # Not below pytest's own directory: as root, PostgreSQL runs as another user, who may not enter it.
    with tempfile.TemporaryDirectory(prefix="footfall-disk-") as directory:
        if not _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "footfall-test", directory):
            pytest.skip("nobody may mount a file system here")
        try:
            Path(directory).chmod(0o711)
            yield SmallDisk(Path(directory))
        finally:
            _run("umount", "--lazy", directory)


def _resize(path: Path, size: int) -> bool:
    return _run("mount", "-o", f"remount,size={size}", str(path))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
