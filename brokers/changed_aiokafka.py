"""Five changes to the connections of aiokafka 0.14; in another release everything stays as it is.

- A connection that just closed is taken for what it is: a connection to a broker that is gone. uvloop refuses to write
  to a closed transport with a RuntimeError, where asyncio only warns. aiokafka expects an OSError there. The other one
  ended its tasks that fetch and that look for the group's coordinator, for ever: a projector stood still after a broker
  was killed at the wrong moment.
- Each new connection uses the password and the certificates that their files hold now. aiokafka keeps what a client was
  made with: after a rotation, a projector that had to open another connection stood still until it was restarted.
- A start that is cancelled closes the connection that it asks for the brokers. aiokafka leaves it to the collector.
- A client that ends keeps no connection that another task was opening meanwhile. aiokafka closes those that it has.
- A broker that is silent (frozen, or its machine is gone) is left soon. aiokafka gives each question the time of the
  slowest request, such as joining a group: to open a connection, while nobody may open another one; which broker
  leads; which one coordinates. It asks one broker after another in random order, so a silent one was waited for twice
  or three times in a row before anybody heard of the new leaders.
"""

import asyncio
from collections.abc import Awaitable
from functools import wraps
from importlib.metadata import version
from typing import Any

from brokers.credentials import password_now
from brokers.tls import renewed

KNOWN_RELEASE = "0.14."
_DONE = "_footfall_changed"
_ENDS = "_footfall_ends"  # of a client that is closing, or closed
_USUAL = "_footfall_usual"  # of a connection that is being opened: the timeout of its requests, seconds
_SILENT = "_footfall_silent"  # of a client: by broker, until when it is not asked

SILENCE = 4.0  # seconds for an answer that costs a broker nothing
AVOIDED = 2.0  # seconds for which a silent broker is not asked again, if there are others


def change_connections() -> bool:
    """Changes how aiokafka's connections are opened and written to, once; returns whether they are changed."""
    if not version("aiokafka").startswith(KNOWN_RELEASE):
        return False
    from aiokafka.client import AIOKafkaClient  # noqa: PLC0415 - settings are read without a client
    from aiokafka.conn import AIOKafkaConnection  # noqa: PLC0415

    if not getattr(AIOKafkaConnection, _DONE, False):
        AIOKafkaConnection.send = _leaving_the_silent(_expecting_closed_transports(AIOKafkaConnection.send))
        AIOKafkaConnection.connect = _in_short_time(_reading_files_again(AIOKafkaConnection.connect))
        greeting = AIOKafkaConnection._do_version_lookup  # noqa: SLF001 - what is asked first on each connection
        AIOKafkaConnection._do_version_lookup = _before_the_usual_time(greeting)  # noqa: SLF001
        AIOKafkaClient.bootstrap = _closing_what_it_opened(AIOKafkaClient.bootstrap)
        AIOKafkaClient.close = _remembering_its_end(AIOKafkaClient.close)
        opening = AIOKafkaClient._get_conn  # noqa: SLF001 - the one place where a client opens its connections
        AIOKafkaClient._get_conn = _avoiding_the_silent(_keeping_none_after_the_end(opening))  # noqa: SLF001
        closed = AIOKafkaClient._on_connection_closed  # noqa: SLF001 - what a client hears of a request without answer
        AIOKafkaClient._on_connection_closed = _remembering_the_silent(closed)  # noqa: SLF001
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


def _leaving_the_silent(plain: Any) -> Any:
    from aiokafka.protocol.coordination import FindCoordinatorRequest  # noqa: PLC0415
    from aiokafka.protocol.metadata import MetadataRequest  # noqa: PLC0415

    async def soon(answer: Awaitable[Any]) -> Any:
        async with asyncio.timeout(SILENCE):
            return await answer

    @wraps(plain)
    def send(self: Any, request: Any, expect_response: bool = True) -> Any:
        answer = plain(self, request, expect_response)
        return soon(answer) if isinstance(request, MetadataRequest | FindCoordinatorRequest) else answer

    return send


def _in_short_time(plain: Any) -> Any:
    @wraps(plain)
    async def connect(self: Any) -> Any:
        setattr(self, _USUAL, self._request_timeout)
        self._request_timeout = min(self._request_timeout, SILENCE)
        return await plain(self)

    return connect


def _before_the_usual_time(plain: Any) -> Any:
    @wraps(plain)
    async def greet(self: Any) -> None:
        await plain(self)
        self._request_timeout = getattr(self, _USUAL)  # a broker that checks who asks may take longer

    return greet


def _silent(client: Any) -> dict[Any, float]:
    """By broker, until when a client does not ask it, in loop time."""
    found: dict[Any, float] = client.__dict__.setdefault(_SILENT, {})
    return found


def _remembering_the_silent(plain: Any) -> Any:
    from aiokafka.conn import CloseReason  # noqa: PLC0415

    @wraps(plain)
    def on_connection_closed(self: Any, closed: Any, reason: Any) -> None:
        if reason is CloseReason.CONNECTION_TIMEOUT:
            nodes = [node for (node, _), connection in self._conns.items() if connection is closed]
            _silent(self).update(dict.fromkeys(nodes, asyncio.get_running_loop().time() + AVOIDED))
        plain(self, closed, reason)

    return on_connection_closed


def _avoiding_the_silent(plain: Any) -> Any:
    @wraps(plain)
    async def get_conn(self: Any, node: Any, **options: Any) -> Any:
        now, silent = asyncio.get_running_loop().time, _silent(self)
        began = now()
        others = any(silent.get(broker.nodeId, 0.0) <= began for broker in self.cluster.brokers())
        if silent.get(node, 0.0) > began and others:
            self.force_metadata_update()  # as if it had not been reached
            return None
        connection = await plain(self, node, **options)
        if connection is None and now() - began >= min(SILENCE, self._request_timeout_ms / 1000):
            silent[node] = now() + AVOIDED
        return connection

    return get_conn
