"""What many viewers ask for at once is read once: they share the read that is under way, and its answer for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class JointReads:
    """Answers by name. The names are few: nothing is forgotten."""

    def __init__(self, fresh: float) -> None:
        """`fresh`: seconds that an answer is given again."""
        self._fresh = fresh
        self._known: dict[str, tuple[float, bytes]] = {}
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    async def once(self, name: str, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer of this name. Raises what `read` raises, to all who wait for it."""
        at, known = self._known.get(name, (0.0, b""))
        if known and time.monotonic() - at < self._fresh:
            return known
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._keep(name, read))
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # if nobody waits any longer
        return await asyncio.shield(task)  # who leaves ends nobody else's read

    async def _keep(self, name: str, read: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            found = await read()
            self._known[name] = time.monotonic(), found
            return found
        finally:
            del self._under_way[name]
