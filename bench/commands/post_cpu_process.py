"""A server whose CPU is measured: `python -m bench.commands.post_cpu_process '<Way as JSON>'` prints one `Spent`.

No Kafka is there: a log acknowledges at once, so what is measured is the way of a request through the process. The
client is another process, so its CPU does not count. `bare` is an ASGI application behind plain uvicorn, answering 201.
"""

import asyncio
import sys
import time
from typing import Any

import msgspec
import uvicorn
import uvloop

from bench.references.app import bare_asgi
from bench.references.instant_commands import application
from web.server import server_of, tune_garbage_collection

ROUNDS = 5  # of which the quickest counts: others of the machine can only add to it


class Way(msgspec.Struct, frozen=True):
    """How requests are let in (`bare`, `open`, `key`, `token`), and how many there are in a round."""

    door: str
    requests: int = 20_000
    connections: int = 64


class Spent(msgspec.Struct, frozen=True):
    """CPU of the server for one POST, microseconds."""

    microseconds: float


async def server(way: Way) -> tuple[uvicorn.Server, str]:
    """The server, and the header fields that its client sends."""
    if way.door == "bare":
        options: dict[str, Any] = {"http": "httptools", "loop": "uvloop", "access_log": False, "log_config": None}
        return uvicorn.Server(uvicorn.Config(bare_asgi, host="127.0.0.1", port=0, ws="none", **options)), ""
    app, credentials = await application(way.door)
    return server_of(app, "127.0.0.1", 0, 4_000), credentials


async def measured(way: Way) -> Spent:
    """Serves, and has a client ask."""
    serving, credentials = await server(way)
    task = asyncio.create_task(serving._serve())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - without signal handlers
    while not serving.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = serving.servers[0].sockets[0].getsockname()[1]
    tune_garbage_collection()
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        arguments = [str(port), str(way.requests), str(way.connections), credentials]
        client = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.clients.post_cpu_client", *arguments)
        if await client.wait():
            raise RuntimeError("the client failed")
        spent.append((time.process_time() - began) / way.requests)
    serving.should_exit = True
    await task
    return Spent(min(spent) * 1e6)


if __name__ == "__main__":
    found = uvloop.run(measured(msgspec.json.decode(sys.argv[1], type=Way)))
    print(msgspec.json.encode(found).decode())
