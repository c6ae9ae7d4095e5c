"""Overload is refused at the door: a bound on the requests in flight, and on the bytes of their bodies.

What is inside is so little that its latency hardly grows; what is refused costs no body and no place in a queue.
"""

from telemetry.metrics import COMMAND_BYTES_IN_FLIGHT, COMMANDS_IN_FLIGHT


class OverloadedError(Exception):
    """Too much is in flight already."""


class Admission:
    """Counts what one process has in flight."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        COMMANDS_IN_FLIGHT.set_function(lambda: self.requests)
        COMMAND_BYTES_IN_FLIGHT.set_function(lambda: self.bytes)

    def enter(self, length: int | None, max_length: int) -> int:
        """Lets a request in and returns the size to `leave` with. Raises OverloadedError.

        `length`: of its body, bytes; None, when it comes in chunks, counts as `max_length`. An only request is always
        let in, however large: its own limit bounds it.
        """
        size = max_length if length is None else length
        if self.requests >= self._max_requests or (self.requests and self.bytes + size > self._max_bytes):
            raise OverloadedError
        self.requests += 1
        self.bytes += size
        return size

    def leave(self, size: int) -> None:
        """It is answered."""
        self.requests -= 1
        self.bytes -= size
