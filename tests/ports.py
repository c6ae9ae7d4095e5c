"""Ports for servers of tests: free now, and no other test process takes one before its server listens."""

import contextlib
import fcntl
import os
import random
import socket
from collections import deque

from footfall.local.embedded.paths import cache_root

# Below the ephemeral ranges: no outgoing connection takes a port while its server starts, which may last half a minute.
SPARE_PORTS = range(22_000, 32_000)
SHARE = 400  # ports of one process
_ours: deque[int] = deque()  # the next one to give first; a port that was given comes last


def free_port() -> int:
    """A TCP port nobody listens on now, which no other process of any run is given while this one lives."""
    if not _ours:
        _ours.extend(_claimed())
    for _ in range(len(_ours)):
        _ours.rotate(-1)
        if is_free(_ours[-1]):
            return _ours[-1]
    raise RuntimeError("no port is free: other programs listen on all of them")


def _claimed() -> list[int]:
    """A share of the ports that nobody else has; all of them, in a random order, where each share is taken."""
    chance = random.SystemRandom()  # not the one that hypothesis seeds alike in every process
    places = cache_root() / "ports-of-tests"
    places.mkdir(parents=True, exist_ok=True)
    shares = [SPARE_PORTS[start : start + SHARE] for start in range(0, len(SPARE_PORTS), SHARE)]
    chance.shuffle(shares)
    for share in shares:
        claim = os.open(places / str(share.start), os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return chance.sample(share, SHARE)  # the lock ends with the process; `up` takes the next ports, too
        os.close(claim)
    return chance.sample(SPARE_PORTS, len(SPARE_PORTS))


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
