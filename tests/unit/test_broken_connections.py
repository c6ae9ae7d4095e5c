"""A broker that is killed while a client writes to it is a broker that is gone, on uvloop, too."""

import asyncio
from unittest.mock import Mock

import aiokafka.client
import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from brokers.settings import KafkaSettings


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
