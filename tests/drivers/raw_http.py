"""HTTP over one connection, byte by byte, and a server in this process to speak it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from telemetry.metrics import REGISTRY
from tests.patience import PATIENCE
from web.asgi import App
from web.server import Server, server_of

DIRECT, ON_ASGI = "/events/generate", "/events/generate?"  # a target with a query is not offered
MAX_CONNECTIONS = 40


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of the next answer."""
        head = (await within(self.reader.readuntil(b"\r\n\r\n"))).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        body = await within(self.reader.readexactly(int(headers["content-length"])))
        return int(head[0].split(" ")[1]), headers, json.loads(body)

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        self.writer.write(request)
        return await self.answer()

    async def is_closed(self) -> bool:
        rest: bytes = await within(self.reader.read(1))
        return rest == b""


async def within(work: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await work


async def until(condition: Callable[[], bool]) -> None:
    """The loop is ours: whatever is to happen happens between its turns."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what the server does has no event
            await asyncio.sleep(0.001)


def in_flight() -> float:
    return REGISTRY.get_sample_value("commands_in_flight") or 0.0


def post(user: str = "user-1", *headers: str, target: str = DIRECT, body: bytes | None = None) -> bytes:
    if body is None:
        body = json.dumps({"userId": user, "eventType": "LOGIN"}).encode()
    lines = [f"POST {target} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def served(app: App, max_connections: int = MAX_CONNECTIONS, max_of_address: int = 0) -> AsyncIterator[Server]:
    server = server_of(app, "127.0.0.1", 0, max_connections, max_of_address)
    task = asyncio.create_task(server.serve_unsignalled())
    await until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        await within(task)


def port_of(server: Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])
