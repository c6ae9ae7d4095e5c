"""References for the command side: `python -m bench.references.app litestar|asgi|protocol PORT`.

`litestar`: a typed POST route that decodes the same body and answers the bytes of a 201, without Kafka.
`asgi`: a bare ASGI application that reads the body and answers the same bytes. Both run with our own server settings.
`protocol`: no HTTP server, only the same bytes for every request; it measures the load generator's own limit.
"""

import asyncio
import sys
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import uvloop
from litestar import Litestar, Response, post

from bench.clients.traffic import commands
from contracts.event import ActivityCommand, UserEvent
from contracts.record import to_record
from web import envelope
from web.asgi import App, Receive, Scope, Send, respond
from web.server import MAX_CONNECTIONS, run, server_of


def accepted_bytes() -> bytes:
    """Returns the body of a usual 201."""
    command = next(commands(seed=7))
    event = UserEvent(
        UUID("0197d0c1-7b8a-7cc3-98c4-dc0c0c07398f"),
        command.user_id,
        command.event_type,
        datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        command.payload,
    )
    return envelope.accepted(to_record(event, str(event.event_id)).value)


ACCEPTED = accepted_bytes()


@post("/events/generate", status_code=201)
async def generate(data: ActivityCommand) -> Response[bytes]:
    """Lets Litestar decode the body, and answers."""
    assert data.user_id
    return Response(ACCEPTED, media_type="application/json")


def litestar_app() -> App:
    """Returns an application with one typed route and nothing else."""
    return cast(App, Litestar([generate], openapi_config=None, logging_config=None))


async def bare_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and answers."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    while (await receive()).get("more_body", False):
        pass
    await respond(send, 201, ACCEPTED, b"application/json")


async def lifespan(receive: Receive, send: Send) -> None:
    """Answers the lifespan messages; there is nothing to start or to end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class Canned(asyncio.Protocol):
    """Answers each chunk of data, which is one request of the load generator, with the same bytes."""

    ANSWER = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(ACCEPTED),
        ACCEPTED,
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own, not a subclass

    def data_received(self, data: bytes) -> None:
        """Sends the answer without reading the request."""
        self._transport.write(self.ANSWER)


async def serve_canned(port: int) -> None:
    """Serves until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


def main(kind: str, port: int) -> int:
    """Serves one of the three until SIGTERM."""
    if kind == "protocol":
        uvloop.run(serve_canned(port))
        return 0
    app = litestar_app() if kind == "litestar" else bare_asgi
    return run(server_of(app, "127.0.0.1", port, MAX_CONNECTIONS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
