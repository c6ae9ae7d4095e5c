"""Clients that ask the query side for much and read nothing, under the memory limit of its container."""

import asyncio
import socket
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from chaos.containers.composition import Composition

SERVICE, PORT = "query-side", 3002
CONNECTIONS = 200
REQUEST = b"GET /events/processed?limit=1000 HTTP/1.1\r\nHost: here\r\n\r\n"
RECEIVE_BUFFER = 8_192  # bytes that the kernel reads for one client
MOST = 128  # MiB that all of them may add
LEAST = 30  # MiB of a query side that does nothing
PATIENCE = 120.0  # seconds until an answer has begun


class UnboundedError(Exception):
    """What waits for clients that read nothing took too much memory, or ended the process."""


@dataclass(frozen=True)
class Held:
    """What the clients cost, in MiB. `limit`: the container's."""

    added: float
    limit: float
    answered: int
    refused: int


async def hold_unread(composition: Composition) -> Held:
    """Keeps the answers of many clients unread for a moment. Raises UnboundedError."""
    found = composition.state_of(SERVICE)
    pid, started, limit = found["State"]["Pid"], found["State"]["StartedAt"], found["HostConfig"]["Memory"] / 2**20
    (address, *_) = (network["IPAddress"] for network in found["NetworkSettings"]["Networks"].values())
    loop = asyncio.get_running_loop()
    with ExitStack() as open_ones:
        before = most = resident(pid)
        if before < LEAST:
            raise UnboundedError(f"the container of {SERVICE} seems to use {before:.0f} MiB: that is not its process")
        statuses: list[int] = []
        clients = [open_ones.enter_context(socket.socket()) for _ in range(CONNECTIONS)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            client.setblocking(False)
            await loop.sock_connect(client, (address, PORT))
            await loop.sock_sendall(client, REQUEST)
        for client in clients:
            async with asyncio.timeout(PATIENCE):
                statuses.append(int((await loop.sock_recv(client, 12))[9:12]))
            most = max(most, resident(pid))
    if composition.state_of(SERVICE)["State"]["StartedAt"] != started:
        raise UnboundedError(f"{CONNECTIONS} unread answers ended the container of {SERVICE}")
    if most - before > MOST or 200 not in statuses:
        raise UnboundedError(f"{CONNECTIONS} unread answers added {most - before:.0f} MiB; statuses: {statuses}")
    return Held(most - before, limit, statuses.count(200), statuses.count(503))


def resident(pid: int) -> float:
    """Returns the resident memory of a container's processes in MiB; the first one may only watch over the others."""
    first = psutil.Process(pid)
    return float(sum(each.memory_info().rss for each in (first, *first.children(recursive=True)))) / 2**20
