"""Copy everything that was ever recorded into a file of JSON lines; the next run appends what is new.

make up                                          # in another terminal
python examples/feed_to_file.py events.ndjson

Beside the file it keeps `events.ndjson.state`: the cursor, and how long the file was then. Whenever this program is
killed, the next run cuts off what was written after the last cursor and goes on there: nothing is missing or twice.
"""

import json
import os
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

URL = os.environ.get("FOOTFALL_URL", "http://127.0.0.1:3000")


def page(cursor: str) -> tuple[list[dict[str, Any]], str, bool]:
    """Up to 1,000 events after the cursor, the cursor to go on with, and whether there is more to read now."""
    query = urllib.parse.urlencode({"since": cursor, "limit": 1000})
    with urllib.request.urlopen(f"{URL}/events/feed?{query}", timeout=60) as answer:
        return json.load(answer), answer.headers["Footfall-Cursor"], "Link" in answer.headers


def copy(file: Path) -> int:
    """Appends what is new, and returns how many events that were."""
    state_file = file.with_name(f"{file.name}.state")
    cursor, length = json.loads(state_file.read_text()) if state_file.exists() else ("beginning", 0)
    copied, more = 0, True
    with file.open("ab") as lines:
        lines.truncate(length)
        while more:
            events, cursor, more = page(cursor)
            lines.write(b"".join(json.dumps(event).encode() + b"\n" for event in events))
            lines.flush()
            os.fsync(lines.fileno())
            unfinished = state_file.with_name(f"{state_file.name}.new")
            unfinished.write_text(json.dumps([cursor, lines.seek(0, os.SEEK_END)]))
            unfinished.replace(state_file)
            copied += len(events)
    return copied


if __name__ == "__main__":
    print(f"{copy(Path(sys.argv[1]))} new events")
