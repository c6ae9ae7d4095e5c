"""What the audit log knows of an archive: the entry with which the last run ended (docs/audit.md)."""

import re

from operations.archive.files.manifest import Manifest
from operations.archive.files.refusal import ArchiveError
from read_model.connecting.pool import Connection

LAST_RUN = """
SELECT target FROM ops.audit
WHERE action IN ('archive run', 'archive rewrite') AND outcome = 'done' AND starts_with(target, $1)
ORDER BY number DESC LIMIT 1
"""

_told = re.compile(r".*, entry (?P<number>[0-9]+), (?P<hash>[0-9a-f]{64})", re.DOTALL).fullmatch


def noted(place: str, number: int, head: str) -> str:
    """Returns what a run or a rewrite writes into the audit log: where, how many entries, and the hash of the last."""
    return f"{place}, entry {number}, {head}"


async def check_end(connection: Connection, manifest: Manifest, place: str) -> None:
    """Checks that the archive has the entry that the audit log noted last. A log that knows no run proves nothing.

    Raises:
        ArchiveError: It lacks the entry, or has another one: it was cut off, or its chain was computed again.
    """
    told = await connection.fetchval(LAST_RUN, f"{place}, entry ")
    found = _told(told or "")
    if found is None or int(found["number"]) == 0:
        return
    number, expected = int(found["number"]), found["hash"]
    if manifest.hash_of(number) != expected:
        raise ArchiveError(
            f"The archive at {place} is not the one that was written: the audit log has entry {number} with the hash "
            f"{expected}, and the archive has {manifest.hash_of(number) or 'no such entry'}."
        )
