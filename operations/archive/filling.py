"""Projects archived records into a generation: by the projector's own loop, with all its guards (decision 2)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from contracts.types import Catalogue
from operations.archive.consumer import ArchiveConsumer, ArchiveHistory
from operations.archive.files.reading import Records
from operations.archive.files.refusal import ArchiveError
from operations.archive.running import OnProgress
from operations.archive.seam import ends_of_records
from projector.consuming.ownership import Ownership
from projector.consuming.run import Projector
from projector.generations.limits import GenerationLimits
from projector.generations.loop import owner_name
from projector.privacy.erased_users import product_fields
from projector.projections.projection import PLAN_SETTINGS
from projector.sealed.keys import Keys, opening
from projector.settings import ProjectorSettings
from projector.writing.checkpoints import Checkpoints
from projector.writing.claims import Claims
from projector.writing.commit import GenerationWriter
from projector.writing.failure import leaves
from read_model.connecting.pool import closing, open_pool
from read_model.generations.register import Generation, positions, projector_name

LOOK_INTERVAL = 0.1  # seconds between two looks at how far it is


class OwnProcess(GenerationLimits):
    """The limits of a generation that a process of its own fills: it need not rest for an active one beside it.

    `--max-rate` leaves the servers room for queries.
    """

    def records_at_once(self, usual: int) -> int:
        """Returns the maximum number of records in one fetch."""
        return usual

    def rest(self, spent: float) -> float:
        """Returns how many seconds to rest after a batch: none, however long it took."""
        return 0


class Filling:
    """Fills one generation from an archive, from its checkpoints on: after a kill it goes on where it was."""

    def __init__(
        self, settings: ProjectorSettings, catalogue: Catalogue, keys: Keys | None, on_progress: OnProgress
    ) -> None:
        """`keys`: of the sealed log; None: there is no key store."""
        self._settings, self._catalogue, self._keys = settings, catalogue, keys
        self._on_progress = on_progress

    async def fill(self, generation: Generation, records: Records) -> None:
        """Projects every archived record that the generation has not.

        Raises:
            ArchiveError: A partition stopped, or a file is not as it was written.
            ExceptionGroup: What else ended it.
        """
        async with self._pool(generation.name) as pool, opening(self._keys, self._catalogue) as opener:
            consumer: Any = ArchiveConsumer(records, self._settings.kafka_topic)
            ownership = self._ownership(generation.name, pool, consumer, records)
            projector = Projector(
                consumer,
                pool,
                ownership,
                GenerationWriter(generation.name, self._catalogue),
                self._settings,
                OwnProcess(generation),
                opener,
            )
            try:
                await self._until_full(projector, ownership, pool, ends_of_records(records.manifest))
            except BaseExceptionGroup as group:
                for error in leaves(group):
                    if isinstance(error, ArchiveError):
                        raise error from group
                raise
            finally:
                ownership.release_all()

    def _ownership(self, generation: str, pool: Any, consumer: Any, records: Records) -> Ownership:
        history: Any = ArchiveHistory(records)
        claims = Claims(
            consumer,
            pool,
            Checkpoints(generation, self._settings.kafka_topic, self._catalogue.digest),
            history,
            owner=owner_name(),
            start_from="earliest",
            products=product_fields(self._catalogue),
        )
        return Ownership(consumer, claims)

    async def _until_full(self, projector: Projector, ownership: Ownership, pool: Any, ends: Mapping[int, int]) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(projector.run(stop))
            try:
                full = False
                while not full:
                    ended, _ = await asyncio.wait([work], timeout=LOOK_INTERVAL)
                    full = bool(ended) or await self._is_full(ownership, pool, ends)
            finally:
                stop.set()

    async def _is_full(self, ownership: Ownership, pool: Any, ends: Mapping[int, int]) -> bool:
        if ownership.stopped:
            partition, stopped = next(iter(ownership.stopped.items()))
            raise ArchiveError(
                f"Partition {partition} of {ownership.generation} stopped at offset {stopped.position.next_offset}: "
                f"{stopped.stop.reason}. When the cause is mended: footfall archive restore"
            )
        async with pool.acquire() as connection:
            done = await positions(connection, ownership.generation, ownership.topic)
        self._on_progress(sum(min(done.get(p, 0), end) for p, end in ends.items()), sum(ends.values()))
        return all(done.get(partition, 0) >= end for partition, end in ends.items())

    @contextlib.asynccontextmanager
    async def _pool(self, generation: str) -> AsyncIterator[Any]:
        pool = await open_pool(
            self._settings.database_url.get_secret_value(),
            application=projector_name(generation),
            min_size=1,
            max_size=self._settings.projector_lanes + 5,
            server_settings=PLAN_SETTINGS,
        )
        async with closing(pool):
            yield pool
