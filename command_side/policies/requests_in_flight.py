"""Overload is refused before a body is read: a bound on the commands in flight, and on the bytes of their bodies.

What is admitted is so little that its latency hardly grows; what is refused costs no body and no place in a queue.
"""

from command_side.policies.command_heads import CommandHead
from telemetry.metrics import COMMAND_BYTES_IN_FLIGHT, COMMANDS_IN_FLIGHT, COMMANDS_REJECTED
from web.policies.decisions import ADMIT, Admit, Decision, Refuse
from web.policies.request_head import RequestHead

RETRY_AFTER = (b"retry-after", b"1")  # seconds
OVERLOADED = Refuse(503, "Too many requests are in flight. Nothing was recorded; try again shortly.", (RETRY_AFTER,))


class RequestsInFlight:
    """The policy: counts the commands of one process from their heads to the end of their answers."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self._admit = Admit(release=self._leave)
        COMMANDS_IN_FLIGHT.set_function(lambda: self.requests)
        COMMAND_BYTES_IN_FLIGHT.set_function(lambda: self.bytes)

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`. A body whose length is not declared counts as the largest of its path.

        An only request is always admitted, however large: its own limit bounds it.
        """
        command: CommandHead | None = head.facts.get(CommandHead)
        if command is None:
            return ADMIT
        size = command.max_bytes if command.length is None else command.length
        if self.requests >= self._max_requests or (self.requests and self.bytes + size > self._max_bytes):
            COMMANDS_REJECTED.labels(status=503).inc()
            return OVERLOADED
        self.requests += 1
        self.bytes += size
        return self._admit

    def _leave(self, head: RequestHead) -> None:
        command: CommandHead = head.facts[CommandHead]
        self.requests -= 1
        self.bytes -= command.max_bytes if command.length is None else command.length
