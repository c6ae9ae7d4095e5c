"""Makes aiokafka take a connection that just closed for what it is: a connection to a broker that is gone.

uvloop refuses to write to a closed transport with a RuntimeError, where asyncio only warns. aiokafka 0.14 expects an
OSError there. The other error ended its tasks that fetch and that look for the group's coordinator, for ever: a
projector stood still after a broker was killed at the wrong moment. In another release everything stays as it is.
"""

from functools import wraps
from importlib.metadata import version
from typing import Any

KNOWN_RELEASE = "0.14."
_DONE = "_footfall_expects_closed_transports"


def expect_closed_transports() -> bool:
    """Changes how aiokafka's connections send, once; returns whether they are changed."""
    if not version("aiokafka").startswith(KNOWN_RELEASE):
        return False
    from aiokafka.conn import AIOKafkaConnection, CloseReason  # noqa: PLC0415 - settings are read without a client
    from aiokafka.errors import KafkaConnectionError  # noqa: PLC0415

    plain = AIOKafkaConnection.send
    if getattr(plain, _DONE, False):
        return True

    @wraps(plain)
    def send(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
        try:
            return plain(self, request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error

    setattr(send, _DONE, True)
    AIOKafkaConnection.send = send
    return True
