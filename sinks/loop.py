"""Runs one sink with the projector's own loop: fetch, batches, ownership, failures and dead letters are the same."""

from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer

from contracts.types import Catalogue
from projector.generations.history import HistoryCheck
from projector.generations.limits import GenerationLimits
from projector.generations.loop import GenerationLoop, owner_name
from projector.privacy.erased_users import product_fields
from projector.sealed.opener import Opener, Unsealed
from projector.writing.claims import Claims
from projector.writing.commit import GenerationWriter
from read_model.generations.register import Generation
from sinks.checkpoints import SinkCheckpoints, SinkClaims
from sinks.sealed import Stubs
from sinks.settings import SinkSettings
from sinks.target import Target
from sinks.writer import SinkWriter

OPEN = "SELECT ops.open_sink($1, $2, $3)"


async def open_sink(pool: Any, name: str, target: UUID, *, anew: bool) -> bool:
    """Registers a sink. Returns whether it begins at the beginning of the log.

    Args:
        pool: Of the read model.
        name: The sink's schema.
        target: What the target says it is.
        anew: Begin again, although the target is the one that it was.
    """
    async with pool.acquire() as connection:
        begins: bool = await connection.fetchval(OPEN, name, target, anew)
    return begins


class SinkLimits(GenerationLimits):
    """The limits of a sink, which no operator sets: it neither rests nor waits for the read model."""

    def __init__(self, name: str, lanes: int) -> None:
        super().__init__(Generation(name, "standby"))
        self._lanes = lanes

    def is_active(self) -> bool:
        """Returns that it need not rest for another generation."""
        return True

    def lanes(self, usual: int) -> int:
        """Returns the number of lanes that share the partitions."""
        return min(usual, self._lanes)


class SinkLoop(GenerationLoop):
    """Writes the log into one target."""

    def __init__(
        self, settings: SinkSettings, catalogue: Catalogue, name: str, target: Target, target_id: UUID
    ) -> None:
        super().__init__(settings, catalogue, SinkLimits(name, target.lanes))
        self._target, self._target_id, self._tenants = target, target_id, settings.tenants

    def _claims(self, consumer: AIOKafkaConsumer, pool: Any, history: HistoryCheck) -> Claims:
        return SinkClaims(
            consumer,
            pool,
            SinkCheckpoints(self._name, self._settings.kafka_topic, self._catalogue.digest),
            history,
            target=self._target,
            owner=owner_name(),
            start_from="earliest",
            products=product_fields(self._catalogue),
        )

    def _writer(self) -> GenerationWriter:
        return SinkWriter(self._name, self._catalogue, self._target, self._target_id, self._tenants)

    def _opener(self) -> Opener | Unsealed:
        return Stubs(self._catalogue.product_fields)
