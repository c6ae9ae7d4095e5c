"""The projector's composition root: builds everything, runs it, closes it in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from brokers.diagnosis import WhyAway
from contracts.types import Catalogue
from projector.audit.keeper import AuditKeeper
from projector.consuming.log_probe import LogProbe
from projector.consuming.ownership import Ownership
from projector.facts.reporter import FactsReporter
from projector.generations.limits import GenerationLimits, Generations
from projector.generations.loop import CLOSE_TIMEOUT, GenerationLoop, owner_name
from projector.liveness.ending_note import ending_note
from projector.liveness.partition_monitor import PartitionMonitor
from projector.liveness.rights_watch import Missing, RightsWatch
from projector.liveness.watchdog import Watchdog
from projector.privacy.retention_keeper import RetentionKeeper
from projector.sealed.keeper import SealedKeeper
from projector.sealed.keys import Keys
from projector.settings import ProjectorSettings
from read_model.connecting.pool import closing, open_pool
from read_model.connecting.unavailable import NOT_YET_THERE, OF_POSTGRESQL
from read_model.generations.event_types import event_types_in_use
from read_model.tables.schema_version import newest_migration, schema_state
from sealing.errors import KeyStoreAwayError
from telemetry.connections import once_there
from telemetry.health import LIVENESS, DependencyState, Probe
from telemetry.logs import get_logger

ServeProbes = Callable[[Mapping[str, Probe]], AbstractAsyncContextManager[None]]

QUERY_TIMEOUT = 30.0  # seconds for a statement beside projecting: without one a silent session keeps its place for ever


async def run_projector(
    settings: ProjectorSettings,
    catalogue: Catalogue,
    stop: asyncio.Event,
    serve_probes: ServeProbes,
    keys: Keys | None = None,
) -> None:
    """Runs the projector process until `stop` is set. Each loop then commits the batches that it has begun.

    `keys`: of the sealed log; None: there is no key store.

    Raises:
        Exception: Kafka or PostgreSQL cannot be reached within `startup_timeout_ms`, or the active generation's loop
            failed.
    """
    loops = Loops(settings, catalogue, keys)
    async with register(settings) as pool, _key_store(keys, settings):
        await tell_of_schema(pool)
        facts = FactsReporter(settings, loops.generation_with_the_first_partition)
        keeper = AuditKeeper(settings, pool, loops.has_the_first_partition)
        async with (
            watched(
                settings, catalogue, pool, loops.active, serve_probes, {} if keys is None else {"key store": keys.state}
            ),
            keeper.keeping(),
            facts.reporting(),
            RetentionKeeper(settings, loops.has_the_first_partition).keeping(),
            nullcontext() if keys is None else SealedKeeper(keys.store, pool, loops.has_the_first_partition).keeping(),
        ):
            await Generations(pool, loops.project).run(stop)
    get_logger("projector").info("stopped")


@asynccontextmanager
async def watched(
    settings: ProjectorSettings,
    catalogue: Catalogue,
    pool: Any,
    active: Callable[[], GenerationLoop | None],
    serve_probes: ServeProbes,
    more_probes: Mapping[str, Probe],
) -> AsyncIterator[None]:
    """Watches the loop that `active` returns during the body, and serves its health.

    The watchdog ends the process if that loop is stuck. A build that is stuck is no reason to; `footfall rebuild
    status` shows it.
    """

    def ownerships() -> list[Ownership]:
        loop = active()
        return [loop.ownership] if loop is not None and loop.ownership is not None else []

    monitor = PartitionMonitor(settings, pool, active, log_probe(settings, "outlook"))
    watchdog = Watchdog(
        ownerships,
        log_probe(settings, "watchdog"),
        settings.watchdog_interval_ms / 1000,
        verdicts=lambda: monitor.verdicts,
        note=ending_note(settings.database_url, owner_name()),
    )
    rights = RightsWatch(settings)
    probes = {
        "kafka": kafka_probe(settings, active, monitor, rights),
        "postgres": postgres_probe(catalogue, pool),
        "partitions": partitions_probe(active, monitor),
        LIVENESS: watchdog.liveness,
        **more_probes,
    }
    async with serve_probes(probes), monitor.running(), rights.running(), watchdog.watching():
        yield


class Loops:
    """The generation loops that run now, by generation."""

    def __init__(self, settings: ProjectorSettings, catalogue: Catalogue, keys: Keys | None) -> None:
        self._settings, self._catalogue, self._keys = settings, catalogue, keys
        self._running: dict[str, GenerationLoop] = {}

    async def project(self, limits: GenerationLimits, stop: asyncio.Event) -> None:
        """Runs the loop of one generation until `stop` is set."""
        loop = self._running[limits.name] = GenerationLoop(self._settings, self._catalogue, limits, self._keys)
        try:
            await loop.run(stop)
        finally:
            del self._running[limits.name]

    def active(self) -> GenerationLoop | None:
        """Returns the loop of the active generation, which queries read; None while that loop is starting."""
        return next((loop for loop in self._running.values() if loop.limits.current.state == "active"), None)

    def has_the_first_partition(self) -> bool:
        """Whether this projector holds partition 0 of the active generation. What one of all should do, it does."""
        return self.generation_with_the_first_partition() is not None

    def generation_with_the_first_partition(self) -> str | None:
        """Returns the active generation if this projector holds its partition 0."""
        loop = self.active()
        held = loop is not None and loop.ownership is not None and 0 in loop.ownership.held
        return loop.limits.name if loop is not None and held else None


@asynccontextmanager
async def register(settings: ProjectorSettings) -> AsyncIterator[Any]:
    """Opens a pool of two connections beside those of the loops: one reads the generation register, one is for probes.

    Waits up to `startup_timeout_ms` for PostgreSQL.
    """
    url = settings.database_url
    pool = await once_there(
        "PostgreSQL",
        lambda: open_pool(url, application="footfall-projector", min_size=1, max_size=2, query_timeout=QUERY_TIMEOUT),
        NOT_YET_THERE,
        settings.startup_timeout_ms / 1000,
    )
    async with closing(pool):
        yield pool


async def tell_of_schema(pool: Any) -> None:
    """Logs why nothing will be projected, if the schema is not the one that this version needs."""
    with suppress(*OF_POSTGRESQL):  # whatever it is, the loops meet it, too, and wait
        state = await schema_state(pool, newest_migration())
        if not state.usable:
            get_logger("projector").error("schema_not_usable", reason=state.detail)


@asynccontextmanager
async def _key_store(keys: Keys | None, settings: ProjectorSettings) -> AsyncIterator[None]:
    """Connects to the key store, if there is one. Raises WrongTenantKeysError."""
    if keys is None:
        yield
        return
    await once_there("the key store", keys.store.open, (KeyStoreAwayError,), settings.startup_timeout_ms / 1000)
    try:
        yield
    finally:
        await keys.store.close()


def log_probe(settings: ProjectorSettings, purpose: str) -> LogProbe:
    """Returns what asks Kafka about the log, over a connection of its own."""
    return LogProbe(settings.client_options(), f"footfall-{purpose}-{owner_name()}")


def kafka_probe(
    settings: ProjectorSettings,
    active: Callable[[], GenerationLoop | None],
    monitor: PartitionMonitor,
    rights: RightsWatch,
) -> Probe:
    """Returns a probe: whether Kafka answers, and lets us do what we must."""
    why_away = WhyAway(settings.client_options)

    async def kafka() -> DependencyState:
        if isinstance(rights.found, Missing):
            return DependencyState(ok=False, detail=str(rights.found))
        loop = active()
        if loop is None or loop.consumer is None:
            return DependencyState(ok=False, detail=await why_away.said() or "not connected yet")
        try:
            await loop.consumer.end_offsets([TopicPartition(settings.kafka_topic, 0)])
        except KafkaError as error:
            return DependencyState(ok=False, detail=await why_away.said() or type(error).__name__)
        return DependencyState(ok=True, detail=" ".join(monitor.broken_promises))

    return kafka


def postgres_probe(catalogue: Catalogue, pool: Any) -> Probe:
    """Returns a probe: whether PostgreSQL has the schema that we write, and others project the same event types."""
    wanted = newest_migration()

    async def postgres() -> DependencyState:
        async with pool.acquire(timeout=CLOSE_TIMEOUT) as connection:
            schema = await schema_state(connection, wanted)
            others = await event_types_in_use(connection) if schema.usable else set[str]()
        return DependencyState(schema.usable, "; ".join(filter(None, (schema.detail, catalogue.words(others)))))

    return postgres


def partitions_probe(active: Callable[[], GenerationLoop | None], monitor: PartitionMonitor) -> Probe:
    """Returns a probe: whether every partition that we answer for goes on."""

    async def partitions() -> DependencyState:
        loop = active()
        if loop is None or loop.ownership is None:
            return DependencyState(ok=False, detail="not connected yet")
        stopped = loop.ownership.stopped
        found = []
        if stopped:
            reasons = "; ".join(f"{p}: {each.stop.reason}" for p, each in sorted(stopped.items()))
            found.append(f"stopped partitions: {reasons}")
        found += [
            f"partition {partition}: {verdict.reason}"
            for partition, verdict in sorted(monitor.verdicts.items())
            if not verdict.healthy and partition not in stopped
        ]
        joining = monitor.joining()
        if joining is not None and not joining.healthy:
            found.append(str(joining.reason))
        if found:
            return DependencyState(ok=False, detail="; ".join(found))
        return DependencyState(ok=True, detail=f"{len(loop.ownership.held)} held")

    return partitions
