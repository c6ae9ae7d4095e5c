"""What a request costs, in units (docs/limits.md): one, more for a large body, and more for the time of a read."""

from web.policies.request_head import RequestHead

BODY_UNIT = 4_096  # bytes of a body that cost one unit
UNKNOWN_BODY = 16  # units of a body that does not say its length
SECOND = 20  # units of a second of a read: of the database, and of the rows that it gives
# Whoever restarts a process that does not answer must not be told that it asks too often.
FREE = frozenset({"/health", "/health/live", "/health/ready"})
STREAM = "/events/stream"  # lasts as long as its client stays, and costs nothing while it waits


def cost_of(head: RequestHead) -> int:
    """Units that are known before anything is done."""
    if head.method != "POST":
        return 0 if head.path in FREE else 1
    for name, value in head.headers:
        if name == b"content-length":
            return 1 if len(value) < 4 else 1 + int(value) // BODY_UNIT
    return UNKNOWN_BODY


def is_paid_by_time(head: RequestHead) -> bool:
    """Whether how long it takes is part of its cost."""
    return head.method in ("GET", "HEAD") and head.path != STREAM and head.path not in FREE
