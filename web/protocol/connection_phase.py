"""What a connection is doing, in one word each."""

from enum import Enum


class Phase(Enum):
    """What one connection waits for. All but the second have a deadline, counted from when the phase began."""

    AWAITING_HEAD = "the end of a request's head"
    BUSY = "the rest of a request, or its answer"
    IDLE = "another request: all are answered"
    LINGERING = "the rest of a body whose request is answered"
    SPOILED = "the answers it owes; what arrived behind their requests is no request, and is not read"
    DISCARDING = "its end: what still arrives is thrown away, so that the client can read the last answer"


class Way(Enum):
    """Who has the request that a connection has received."""

    ASGI = "uvicorn, or there is none"
    BUFFERING = "we keep it from uvicorn until it is whole"
    WHOLE = "we keep it, and it is whole"
    ANSWERING = "a fast handler"
    ANSWERING_LAST = "a fast handler, and its answer is the last one of the connection"


# Looking up a member of an Enum by its name costs more than comparing it.
AWAITING_HEAD, BUSY, IDLE, LINGERING, SPOILED, DISCARDING = Phase
ASGI, BUFFERING, WHOLE, ANSWERING, ANSWERING_LAST = Way
