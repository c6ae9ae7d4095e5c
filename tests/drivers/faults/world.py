"""The stack into which faults are planted, and what is known of a fault.

Each fault is a context manager: it plants the fault, and its body calls what it yields to follow the remedy.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process
from tests.producing import sql
from tests.servers import Servers
from tests.topics import make_topics

PARTITIONS = 6
Follow = Callable[[str], None]  # follows the remedy, of which it is given the words


@dataclass
class World:
    """The stack under examination, and how the doctor is told to look at it."""

    footfall: Footfall
    launch: Callable[[Footfall, bool], Process]  # a projector; whether it is waited for until it owns every partition
    projector: Process
    home: Path
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, waits: bool) -> Process:
        """A projector of this stack."""
        return self.launch(self.footfall, waits)

    def undo(self) -> None:
        """Nothing of an earlier fault misleads the doctor; what it did to the servers stays."""
        patch.stopall()
        self.environment.clear()
        self.url = ""

    def restart(self) -> None:
        """A new projector takes the place of the old one."""
        self.projector.kill()
        self.projector = self.start(True)

    @contextmanager
    def on(self, servers: Servers) -> Iterator[None]:
        """Another stack on these servers is under examination for the body."""
        before = self.footfall, self.projector
        (logs := self.home / "elsewhere").mkdir(exist_ok=True)
        footfall = Footfall(servers, f"{self.footfall.topic}-elsewhere", logs)
        make_topics(footfall, PARTITIONS)
        self.footfall = footfall
        self.projector = self.start(True)
        try:
            yield
        finally:
            self.footfall, self.projector = before
            footfall.close()


@dataclass(frozen=True)
class Fault:
    """What is planted, and what the doctor, the metrics and the log say of it.

    `check`: "" if the doctor has nothing to say of it. `alert`: "" if no alert is about it. `logged`: words in the
    projector's log; "" if it has none. `stays`: nothing has to be done about it, and the doctor goes on saying so.
    `only_here`: it is planted in the test's process, and another one, such as a console, cannot see it.
    """

    name: str
    plant: Callable[[World], AbstractContextManager[Follow]]
    check: str
    says: str
    remedy: str = ""
    alert: str = ""
    logged: str = ""
    stays: bool = False
    only_here: bool = False


def ask(world: World, statement: str) -> Any:
    return sql(world.footfall.servers, statement)


class Session:
    """One session of PostgreSQL that stays open between its statements."""

    def __init__(self, servers: Servers) -> None:
        self._loop = asyncio.new_event_loop()
        named = {"application_name": "a-report"}
        self._connection = self._loop.run_until_complete(asyncpg.connect(servers.admin_url, server_settings=named))

    def run(self, statement: str) -> None:
        self._loop.run_until_complete(self._connection.execute(statement))

    def close(self) -> None:
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # the remedy has ended it
            self._connection.terminate()
        await asyncio.sleep(0.1)  # the transport is closed in a later turn of the loop
