"""The client of `post_cpu`: `python -m bench.clients.post_cpu_client PORT REQUESTS ..`. Exits with 1 if refused."""

import asyncio
import sys
from typing import cast

import uvloop

BODY = (
    b'{"userId":"user-123","eventType":"PRODUCT_VIEW","payload":{"productId":"p-42","referrer":"https://example.com/"}}'
)


def request(port: int, header: str) -> bytes:
    """One whole request. `header`: a further field, or nothing."""
    lines = ["POST /events/generate HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(BODY)}", *([header] if header else []), "", ""]
    return "\r\n".join(lines).encode() + BODY


class Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the one before comes in."""

    def __init__(self, sent: bytes, count: int, done: "asyncio.Future[bool]") -> None:
        self._sent, self._left, self._done = sent, count, done
        self._all_accepted = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        """An answer comes in one piece, or its body in a second one."""
        if data.startswith(b"HTTP/1.1 "):
            self._all_accepted = self._all_accepted and data.startswith(b"HTTP/1.1 201 ")
        if not data.endswith(b"}"):
            return
        self._left -= 1
        if self._left > 0 and self._all_accepted:
            self._transport.write(self._sent)
        else:
            self._transport.close()
            self._done.set_result(self._all_accepted)


async def main(port: int, requests: int, connections: int, header: str) -> bool:
    """Returns whether every request was accepted."""
    loop = asyncio.get_running_loop()
    sent, each = request(port, header), requests // connections
    ends = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(lambda end=end: Client(sent, each, end), "127.0.0.1", port)  # type: ignore[misc]
    return all(await asyncio.gather(*ends))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:4]]
    sys.exit(0 if uvloop.run(main(numbers[0], numbers[1], numbers[2], sys.argv[4])) else 1)
