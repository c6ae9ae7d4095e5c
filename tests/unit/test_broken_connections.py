"""A broker that is killed while a client writes to it is gone, on uvloop, too; a silent one is left soon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import aiokafka.client
import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from brokers import changed_aiokafka
from brokers.settings import KafkaSettings
from tests.patience import PATIENCE


async def _send_after_the_end() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = AIOKafkaConnection("127.0.0.1", port)
        connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
        connection._read_task = asyncio.create_task(asyncio.sleep(0))
        connection._versions = {3: (1, 1)}
        connection._writer.transport.abort()
        await asyncio.sleep(0.05)
        connection.send(MetadataRequest([]))


def test_writing_to_a_closed_connection_says_that_the_broker_is_gone() -> None:
    KafkaSettings().client_options()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(KafkaConnectionError):
        runner.run(_send_after_the_end())


async def test_a_connection_that_is_opened_while_its_client_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    KafkaSettings().client_options()
    connection, begun, goes_on = Mock(), asyncio.Event(), asyncio.Event()

    async def create_conn(*_: object, **__: object) -> Mock:
        begun.set()
        await goes_on.wait()
        return connection

    monkeypatch.setattr(aiokafka.client, "create_conn", create_conn)
    client = aiokafka.client.AIOKafkaClient()
    monkeypatch.setattr(client.cluster, "broker_metadata", lambda _: Mock(host="127.0.0.1", port=9))
    opening = asyncio.create_task(client._get_conn(1))
    await begun.wait()
    await client.close()
    goes_on.set()
    assert await opening is None
    connection.close.assert_called_once_with()


@asynccontextmanager
async def silent_broker() -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A broker that is frozen: it takes connections, and says nothing. Yields its port and those that it took."""
    taken: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], taken
        for writer in taken:
            writer.transport.abort()


async def test_a_silent_broker_is_left_soon_and_not_asked_again_while_there_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    KafkaSettings().client_options()
    monkeypatch.setattr(changed_aiokafka, "SILENCE", 0.1)
    client = aiokafka.client.AIOKafkaClient(request_timeout_ms=10 * int(PATIENCE) * 1000)
    async with silent_broker() as (port, taken), asyncio.timeout(PATIENCE):
        monkeypatch.setattr(client.cluster, "broker_metadata", lambda _: Mock(host="127.0.0.1", port=port))
        monkeypatch.setattr(client.cluster, "brokers", lambda: [Mock(nodeId=1), Mock(nodeId=2)])
        assert await client._get_conn(1) is None
        assert await client._get_conn(1) is None
        assert len(taken) == 1
        monkeypatch.setattr(client.cluster, "brokers", lambda: [Mock(nodeId=1)])
        assert await client._get_conn(1) is None
        assert len(taken) == 2
    await client.close()


async def test_a_broker_that_left_a_request_unanswered_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    KafkaSettings().client_options()
    client, connection = aiokafka.client.AIOKafkaClient(), Mock()
    monkeypatch.setattr(client.cluster, "brokers", lambda: [Mock(nodeId=1), Mock(nodeId=2)])
    asked: list[int] = []
    monkeypatch.setattr(client.cluster, "broker_metadata", asked.append)  # and none of them is known
    client._conns[1, 0] = connection
    client._on_connection_closed(connection, CloseReason.CONNECTION_TIMEOUT)
    del client._conns[1, 0]
    for node in (1, 2):
        assert await client._get_conn(node) is None
    assert asked == [2]


async def test_who_leads_is_asked_of_another_broker_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    KafkaSettings().client_options()
    monkeypatch.setattr(changed_aiokafka, "SILENCE", 0.1)
    async with silent_broker() as (port, _), asyncio.timeout(PATIENCE):
        connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=10 * int(PATIENCE) * 1000)
        connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
        connection._read_task = asyncio.create_task(asyncio.sleep(0))
        connection._versions = {3: (1, 1)}
        with pytest.raises(TimeoutError):
            await connection.send(MetadataRequest([]))
        connection.close()
