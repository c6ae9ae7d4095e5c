"""Clients that ask the query side for much and read nothing, under the memory limit of its container."""

import asyncio
import socket
from contextlib import ExitStack
from dataclasses import dataclass

import aiohttp
import psutil

from chaos.containers.composition import Composition

SERVICE, PORT = "query-side", 3002
CONNECTIONS = 200
TARGETS = ("/events/processed?limit=1000", "/events/feed?limit=1000", "/events/stream?since=beginning")
RECEIVE_BUFFER = 8_192  # bytes that the kernel reads for one client
MOST = 128  # MiB that all of them may add
KEPT = 1 / 3  # of what they added, at most, a while after they have left
WARM_UP = 3  # rounds of clients that read everything: what is loaded once is loaded
LEAST = 30  # MiB of a query side that does nothing
PATIENCE = 120.0  # seconds until an answer has begun


class UnboundedError(Exception):
    """What waits for clients that read nothing took too much memory, or ended the process."""


@dataclass(frozen=True)
class Held:
    """What the clients cost, in MiB.

    `left`: of `added`, once they had left and the process had given back the rest. `limit`: the container's.
    """

    added: float
    left: float
    limit: float
    answered: int
    refused: int


async def hold_unread(composition: Composition) -> Held:
    """Keeps the answers of many clients unread for a moment. Raises UnboundedError."""
    found = composition.state_of(SERVICE)
    pid, started, limit = found["State"]["Pid"], found["State"]["StartedAt"], found["HostConfig"]["Memory"] / 2**20
    (address, *_) = (network["IPAddress"] for network in found["NetworkSettings"]["Networks"].values())
    await _warm_up(address)
    before = resident(pid)
    if before < LEAST:
        raise UnboundedError(f"the container of {SERVICE} seems to use {before:.0f} MiB: that is not its process")
    most, statuses = await _round(pid, address)
    await _until_there_is_room(address)
    left = await _given_back(pid, before + (most - before) * KEPT)
    if composition.state_of(SERVICE)["State"]["StartedAt"] != started:
        raise UnboundedError(f"{CONNECTIONS} unread answers ended the container of {SERVICE}")
    held = Held(most - before, left - before, limit, statuses.count(200), statuses.count(503))
    if held.added > MOST or held.left > held.added * KEPT or held.answered < CONNECTIONS // 3:
        raise UnboundedError(f"Unread answers took too much: {held}; statuses: {set(statuses)}")
    return held


async def _round(pid: int, address: str) -> tuple[float, list[int]]:
    """Asks with every connection, reads the statuses alone, and leaves. Returns the most memory in MiB, and these."""
    most, statuses = 0.0, []
    with ExitStack() as open_ones:
        clients = [await _ask(open_ones, address, TARGETS[number % len(TARGETS)]) for number in range(CONNECTIONS)]
        for client in clients:
            statuses.append(await _status_of(client))
            most = max(most, resident(pid))
    return most, statuses


async def _until_there_is_room(address: str) -> None:
    """Waits until the clients that left hold nothing: a large page is answered."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(f"http://{address}:{PORT}") as http:
        while True:
            async with http.get(TARGETS[0]) as answer:
                await answer.read()
                if answer.status == 200:
                    return
            await asyncio.sleep(1)


async def _given_back(pid: int, wanted: float) -> float:
    """Waits until a container's processes have at most `wanted` MiB, for a while; returns what they have then."""
    for _ in range(round(PATIENCE)):
        if resident(pid) <= wanted:
            break
        await asyncio.sleep(1)
    return resident(pid)


async def _warm_up(address: str) -> None:
    async with aiohttp.ClientSession(f"http://{address}:{PORT}") as http:
        for target in TARGETS[:2] * WARM_UP:  # a stream has no end
            async with http.get(target) as answer:
                await answer.read()


async def _ask(open_ones: ExitStack, address: str, target: str) -> socket.socket:
    client = open_ones.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (address, PORT))
    await loop.sock_sendall(client, f"GET {target} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    return client


async def _status_of(client: socket.socket) -> int:
    """Waits for an answer to begin, and leaves it unread."""
    async with asyncio.timeout(PATIENCE):
        return int((await asyncio.get_running_loop().sock_recv(client, 12))[9:12])


def resident(pid: int) -> float:
    """Returns the resident memory of a container's processes in MiB; the first one may only watch over the others."""
    first = psutil.Process(pid)
    return float(sum(each.memory_info().rss for each in (first, *first.children(recursive=True)))) / 2**20
