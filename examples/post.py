"""Post one event from Python, with a retry that cannot record it twice. It needs nothing but Python.

make up                            # in another terminal
python examples/post.py [USER]
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

URL = os.environ.get("FOOTFALL_URL", "http://127.0.0.1:3000")
TRIES = 5


def post(command: dict[str, Any], key: str) -> dict[str, Any]:
    """Records the command as one event, however often it has to be sent, and returns the event.

    Raises:
        ValueError: the command is not valid; the text has every problem.
        ConnectionError: the outcome is still unknown after the last try. Repeat later, with the same key.
    """
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(f"{URL}/events/generate", json.dumps(command).encode(), headers)
    for _ in range(TRIES):
        pause = 1.0  # seconds
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                event: dict[str, Any] = json.load(response)["event"]
                return event
        except urllib.error.HTTPError as answer:
            if answer.code < 500:
                raise ValueError(answer.read().decode()) from None
            pause = float(answer.headers.get("Retry-After", pause))
        except OSError as error:  # no connection, or one that broke
            print(f"no answer: {error}", file=sys.stderr)
        time.sleep(pause)
    raise ConnectionError(f"no answer that says what became of key {key}")


if __name__ == "__main__":
    user = sys.argv[1] if len(sys.argv) > 1 else "user-1"
    print(json.dumps(post({"userId": user, "eventType": "LOGIN", "payload": {"device": "example"}}, str(uuid.uuid1()))))
