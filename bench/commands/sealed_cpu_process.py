"""CPU of a command, sealed and not: `python -m bench.commands.sealed_cpu_process '<Way as JSON>'` prints `Spent`s.

No Kafka and no key store are there: batches are built and compressed as for Kafka, and then acknowledged; all users are
known beforehand. So what is measured is the work of the process itself, which depends little on what else runs.
The ways are measured in turn in one process; of each the quickest round counts: others of the machine can only add.
"""

import asyncio
import binascii
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import uvicorn
import uvloop
from aiokafka.producer.message_accumulator import BatchBuilder
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.clients.load import Load, Measured
from bench.clients.traffic import USERS
from bench.references.instant_commands import nothing_else
from command_side.api.batch import batch_route
from command_side.api.fast_single import FastCommands
from command_side.api.single import GENERATE
from command_side.app import command_policies
from command_side.batch_submission import Batches
from command_side.idempotency import RecentKeys
from command_side.publishing.event_log import EventLog
from command_side.publishing.kafka_event_log import KafkaEventLog
from command_side.publishing.quick_codecs import use_quick_codecs
from command_side.publishing.sealed_log import SealedLog
from command_side.settings import CommandSettings
from command_side.submission import Commands
from contracts.event import DEFAULT_TENANT
from contracts.types import read_catalogue
from contracts.validation.commands import CommandRules
from sealing.cipher import new_key
from sealing.months import month_of
from sealing.sealer import Known, Sealer, product_reader
from sealing.store import KeyStore, Subject, new_subject_id
from web.middleware import Middleware
from web.policies.decisions import RequestPolicy
from web.policies.principal import OpenDoor
from web.server import server_of, tune_garbage_collection
from web.tenants.position_tokens import PositionTokens

PARTITIONS = 6
ROUNDS = 5
GZIP, ZSTD = 1, 4  # as Kafka numbers them


class Way(msgspec.Struct, frozen=True):
    """What is sent in each round."""

    path: str
    connections: int
    items: int
    seconds: float = 1.5


class Spent(msgspec.Struct, frozen=True):
    """CPU for one event, microseconds. `floor`: of the encryption and its base64 alone, in a loop of nothing else."""

    plain: float
    sealed: float
    floor: float


class BuildingProducer:
    """Stands in for aiokafka's producer: builds each batch, and acknowledges it in a later turn of the loop."""

    def __init__(self, compression: int) -> None:
        self._compression = compression
        self._offset = 0

    async def start(self) -> None:
        """Connects to nothing."""

    async def stop(self) -> None:
        """See `start`."""

    async def partitions_for(self, _topic: str) -> set[int]:
        """Those of every topic."""
        return set(range(PARTITIONS))

    @property
    def client(self) -> Any:
        """What knows the topics."""

        async def metadata() -> Any:
            return SimpleNamespace(topics=lambda: {"bench"})

        return SimpleNamespace(fetch_all_metadata=metadata)

    def create_batch(self) -> BatchBuilder:
        """See aiokafka."""
        return BatchBuilder(262_144, self._compression)

    async def send_batch(self, batch: BatchBuilder, _topic: str, *, partition: int) -> "asyncio.Future[Any]":
        """See aiokafka."""
        batch._build()  # noqa: SLF001 - as its sender does
        done = asyncio.get_running_loop().create_future()
        at = SimpleNamespace(offset=self._offset, partition=partition)
        self._offset += batch.record_count()
        asyncio.get_running_loop().call_soon(done.set_result, at)
        return done


async def log_of(compression: int) -> KafkaEventLog:
    """The log as the process has it, before a producer that builds batches."""
    log = KafkaEventLog(
        lambda: cast("Any", BuildingProducer(compression)), "bench", timeout=30, retries=0, max_pending=100_000
    )
    await log.start()
    return log


def sealer() -> Sealer:
    """A sealer that knows every user of the traffic."""
    found = Sealer(cast("KeyStore", None), {"PRODUCT_VIEW": product_reader("productId")}, 100_000, 1)
    month = month_of(datetime.now(UTC)).encode()
    found._months = {DEFAULT_TENANT: {month: new_key()}}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no key store
    for number in range(USERS):
        subject = Subject(str(new_subject_id()), DEFAULT_TENANT, os.urandom(32))
        found._remember(f"user-{number:05}".encode(), Known(subject))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return found


def application(log: EventLog) -> Middleware:
    """The command side, open, before a log."""
    settings = CommandSettings()
    keys = RecentKeys(max_bytes=settings.idempotency_memory_bytes, window=settings.idempotency_window_ms / 1000)
    rules, positions = CommandRules(read_catalogue(None)), PositionTokens("")
    batch = batch_route(Batches(log, keys, rules), settings, positions)
    handlers = {GENERATE.encode(): FastCommands(Commands(log, keys, rules), positions).handle}
    policies: list[RequestPolicy] = [OpenDoor(DEFAULT_TENANT), *command_policies(settings)]
    direct = {path: cast("Any", batch.fn) for path in batch.paths}
    return Middleware(nothing_else, "command-side", {}, direct, handlers, policies)


async def served(log: EventLog) -> tuple[uvicorn.Server, "asyncio.Task[None]"]:
    """Serves the command side."""
    server = server_of(application(log), "127.0.0.1", 0, 4_000)
    task = asyncio.create_task(server._serve())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - without signal handlers
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    return server, task


async def spent(server: uvicorn.Server, way: Way, seed: int) -> float:
    """CPU of this process for an event, seconds."""
    port = server.servers[0].sockets[0].getsockname()[1]
    load = Load(port, way.path, way.connections, way.seconds, warmup=0.0, seed=seed, items=way.items)
    arguments = [sys.executable, "-m", "bench.clients.load", msgspec.json.encode(load).decode()]
    client = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert client.stdout is not None
    began = time.process_time()
    told = msgspec.json.decode((await client.stdout.read()).splitlines()[-1], type=Measured)
    took = time.process_time() - began
    if await client.wait() or told.errors:
        raise RuntimeError("requests failed")
    return took / (told.requests * way.items)


async def measured(way: Way) -> Spent:
    """Measures both ways in turn."""
    use_quick_codecs()
    logs: Sequence[EventLog] = [await log_of(GZIP), SealedLog(await log_of(ZSTD), sealer(), 100_000)]
    serving = [await served(log) for log in logs]
    tune_garbage_collection()
    found = [[await spent(server, way, seed) for server, _ in serving] for seed in range(ROUNDS)]
    for server, task in serving:
        server.should_exit = True
        await task
    plain, sealed = (min(each) * 1e6 for each in zip(*found, strict=True))
    return Spent(plain, sealed, floor() * 1e6)


def floor() -> float:
    """Seconds to encrypt 150 bytes beside 200 in the clear, for one of `USERS` users, and to write that as text."""
    nonce, secret, clear = os.urandom(12), os.urandom(150), os.urandom(200)
    ciphers = [AESGCM(os.urandom(32)) for _ in range(USERS)]
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for cipher in ciphers:
            binascii.b2a_base64(nonce + cipher.encrypt(nonce, secret, clear), newline=False)
        found.append((time.process_time() - began) / USERS)
    return min(found)


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(measured(msgspec.json.decode(sys.argv[1], type=Way)))).decode())
