"""The stack into which faults are planted, and what is known of a fault.

Each fault is a context manager: it plants the fault, and its body calls what it yields to follow the remedy.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import httpx
import trustme

from tests.conftest import Footfall
from tests.otlp_receiver import Receiver
from tests.patience import PATIENCE
from tests.processes import Process, is_ready, wait_until
from tests.producing import sql
from tests.servers import Servers
from tests.topics import make_topics

PARTITIONS = 6
RUNAWAY = "127.0.0.2"  # the address of a client that sends too much
SOON = {"WATCHDOG_INTERVAL_MS": "2000", "KAFKA_SESSION_TIMEOUT_MS": "2000", "KAFKA_HEARTBEAT_INTERVAL_MS": "300"}
NOT_RECORDED = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}  # but what comes with a trace
Follow = Callable[[str], None]  # follows the remedy, of which it is given the words
Tells = Literal["whole", "waits", "refused", "slow", "parked", "late", "limited"]


class World:
    """The stack under examination: a command side, a projector, and an operator with a shell.

    `environment`: what the operator, and each process that is started from now on, have beside what the stack says.
    `url`: of the operator's database, if it is not the stack's. `is_well`: no fault is planted in it.
    """

    def __init__(self, footfall: Footfall, home: Path, receiver: Receiver) -> None:
        self.footfall, self.home, self.receiver = footfall, home, receiver
        self.environment: dict[str, str] = {}
        self.url, self.is_well = "", True
        self.others: list[Process] = []  # further projectors
        self._elsewhere = itertools.count(1)
        self.signer = trustme.CA()
        self.authority = home / "authority.pem"
        self.signer.cert_pem.write_to_path(str(self.authority))
        self.front, self.projector = self.start_front(), self.start()

    def start_front(self, **environment: str) -> Process:
        """A command side of this stack."""
        return self._started("command-side", **NOT_RECORDED, **environment)

    def start(self, *, waits: bool = True, module: str = "footfall", **environment: str) -> Process:
        """A projector of this stack. `waits`: until it owns every partition."""
        projector = self._started("projector", module=module, **environment)
        if waits:
            wait_until(lambda: owns(projector), 30, "a projector that owns every partition")
        return projector

    def _started(self, command: str, *, module: str = "footfall", **environment: str) -> Process:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.url}
        more = {**SOON, **traced, **self.environment, **environment}
        return self.footfall.start(command, ready=False, module=module, **more)

    def restart(self, *, waits: bool = True, module: str = "footfall", **environment: str) -> None:
        """A new projector takes the place of the old one."""
        self.projector.kill()
        self.projector = self.start(waits=waits, module=module, **environment)

    def targets(self) -> Mapping[str, list[str]]:
        """What Prometheus scrapes: by job, the addresses of the processes."""
        projectors = [self.projector, *self.others]
        return {"command-side": [self.front.url], "projector": [each.url for each in projectors]}

    @contextmanager
    def on(
        self, servers: Servers, *, makes: Callable[[Footfall], object] | None = None, waits: bool = True
    ) -> Iterator[None]:
        """Another stack on these servers is under examination for the body. `makes`: its topics."""
        before = self.footfall, self.front, self.projector
        (logs := self.home / "elsewhere").mkdir(exist_ok=True)
        footfall = Footfall(servers, f"{self.footfall.topic}-{next(self._elsewhere)}", logs)
        (makes or _topics)(footfall)
        self.footfall = footfall
        self.front, self.projector = self.start_front(), self.start(waits=waits)
        try:
            yield
        finally:
            self.footfall, self.front, self.projector = before
            footfall.close()

    @contextmanager
    def with_front(self, front: Process) -> Iterator[None]:
        """Another command side serves for the body."""
        before, self.front = self.front, front
        try:
            yield
        finally:
            self.front = before
            front.kill()


def _topics(footfall: Footfall) -> None:
    make_topics(footfall, PARTITIONS)


def owns(projector: Process) -> bool:
    return is_ready(projector) and 'partitions_owned{generation="read_g1"} 6.0' in text_of(projector)


def text_of(projector: Process) -> str:
    return httpx.get(f"{projector.url}/metrics", timeout=PATIENCE).text


@dataclass(frozen=True)
class Fault:
    """What is planted, and what is said of it.

    `check`: the doctor's; "" if it has nothing to say. `alerts`: each fires. `effects`: alerts that may follow, as it
    is or for a while. `logged`: words in the log of `logged_by`; "" if it has none. `trace`: what that of an event
    tells. `stays`: nothing has to be done about it, and doctor or alert go on saying so.
    """

    name: str
    plant: Callable[[World], AbstractContextManager[Follow]]
    check: str
    says: str
    remedy: str
    alerts: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    logged: str = ""
    logged_by: Literal["projector", "front"] = "projector"
    trace: Tells = "waits"
    stays: bool = False


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
