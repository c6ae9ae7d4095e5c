"""Four changes to the connections of aiokafka 0.14; in another release everything stays as it is.

- A connection that just closed is taken for what it is: a connection to a broker that is gone. uvloop refuses to write
  to a closed transport with a RuntimeError, where asyncio only warns. aiokafka expects an OSError there. The other one
  ended its tasks that fetch and that look for the group's coordinator, for ever: a projector stood still after a broker
  was killed at the wrong moment.
- Each new connection uses the password and the certificates that their files hold now. aiokafka keeps what a client was
  made with: after a rotation, a projector that had to open another connection stood still until it was restarted.
- A start that is cancelled closes the connection that it asks for the brokers. aiokafka leaves it to the collector.
- A client that ends keeps no connection that another task was opening meanwhile. aiokafka closes those that it has.
"""

import asyncio
from functools import wraps
from importlib.metadata import version
from typing import Any

from brokers.credentials import password_now
from brokers.tls import renewed

KNOWN_RELEASE = "0.14."
_DONE = "_footfall_changed"
_ENDS = "_footfall_ends"  # of a client that is closing, or closed


def change_connections() -> bool:
    """Changes how aiokafka's connections are opened and written to, once; returns whether they are changed."""
    if not version("aiokafka").startswith(KNOWN_RELEASE):
        return False
    from aiokafka.client import AIOKafkaClient  # noqa: PLC0415 - settings are read without a client
    from aiokafka.conn import AIOKafkaConnection  # noqa: PLC0415

    if not getattr(AIOKafkaConnection, _DONE, False):
        AIOKafkaConnection.send = _expecting_closed_transports(AIOKafkaConnection.send)
        AIOKafkaConnection.connect = _reading_files_again(AIOKafkaConnection.connect)
        AIOKafkaClient.bootstrap = _closing_what_it_opened(AIOKafkaClient.bootstrap)
        AIOKafkaClient.close = _remembering_its_end(AIOKafkaClient.close)
        opening = AIOKafkaClient._get_conn  # noqa: SLF001 - the one place where a client opens its connections
        AIOKafkaClient._get_conn = _keeping_none_after_the_end(opening)  # noqa: SLF001
        setattr(AIOKafkaConnection, _DONE, True)
    return True


def _expecting_closed_transports(plain: Any) -> Any:
    from aiokafka.conn import CloseReason  # noqa: PLC0415
    from aiokafka.errors import KafkaConnectionError  # noqa: PLC0415

    @wraps(plain)
    def send(self: Any, request: Any, expect_response: bool = True) -> Any:
        try:
            return plain(self, request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error

    return send


def _reading_files_again(plain: Any) -> Any:
    @wraps(plain)
    async def connect(self: Any) -> Any:
        self._sasl_plain_password = password_now(self._sasl_plain_password)
        self._ssl_context = renewed(self._ssl_context)
        return await plain(self)

    return connect


def _closing_what_it_opened(plain: Any) -> Any:
    from aiokafka import client  # noqa: PLC0415

    opened: dict[Any, list[Any]] = {}  # by the task that starts a client
    open_one = client.create_conn

    async def create_conn(*arguments: Any, **options: Any) -> Any:
        connection = await open_one(*arguments, **options)
        opened.get(asyncio.current_task(), []).append(connection)
        return connection

    @wraps(plain)
    async def bootstrap(self: Any) -> None:
        task = asyncio.current_task()
        opened[task] = []
        setattr(self, _ENDS, False)
        try:
            await plain(self)
        except asyncio.CancelledError:
            for connection in opened[task]:
                connection.close()
            raise
        finally:
            del opened[task]

    client.create_conn = create_conn
    return bootstrap


def _remembering_its_end(plain: Any) -> Any:
    @wraps(plain)
    async def close(self: Any) -> None:
        setattr(self, _ENDS, True)
        await plain(self)

    return close


def _keeping_none_after_the_end(plain: Any) -> Any:
    @wraps(plain)
    async def get_conn(self: Any, *arguments: Any, **options: Any) -> Any:
        connection = await plain(self, *arguments, **options)
        if connection is not None and getattr(self, _ENDS, False):
            connection.close()
            return None  # as if the broker could not be reached
        return connection

    return get_conn
