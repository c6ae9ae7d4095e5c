"""Follow the live stream, and miss nothing when the connection breaks. It needs nothing but Python.

make up                                         # in another terminal
python examples/follow_stream.py [EVENTS]       # ends after so many events; without a number, never
"""

import os
import sys
import time
import urllib.request
from collections.abc import Iterator

URL = os.environ.get("FOOTFALL_URL", "http://127.0.0.1:3000")
PAUSE = 1.0  # seconds, before another connection


def messages(last_id: str) -> Iterator[tuple[str, str, str]]:
    """(id, event, data) of each Server-Sent Event of one connection, beginning after `last_id`."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/events/stream", headers=headers), timeout=60) as answer:
        fields: dict[str, str] = {}
        for raw in answer:
            line = raw.decode().rstrip("\r\n")
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif fields:
                yield fields.get("id", ""), fields.get("event", ""), fields.get("data", "")
                fields = {}


def follow(enough: int | None) -> None:
    """Prints each event once. After a cut it goes on behind the last id that it saw."""
    last_id, seen = "", 0
    while True:
        try:
            for message_id, kind, data in messages(last_id):
                last_id = message_id or last_id  # also of heartbeats: they say how far we are
                if data and kind not in ("begin", "end"):
                    print(data, flush=True)
                    seen += 1
                    if seen == enough:
                        return
                elif kind == "begin":
                    print(f"following from {data}", file=sys.stderr, flush=True)
        except OSError as error:
            print(f"the connection broke: {error}", file=sys.stderr)
        time.sleep(PAUSE)


if __name__ == "__main__":
    follow(int(sys.argv[1]) if len(sys.argv) > 1 else None)
