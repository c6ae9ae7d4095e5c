"""The wire format of what this process publishes, with the id that the schema registry gives the topic's schema.

The id is learned before the process takes commands, and looked up again now and then. While the registry is away the
id that is known goes on, since a schema's id never changes; without one no command is taken.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from brokers.registry.errors import RegistryAwayError, RegistryRefusedError
from brokers.registry.registration import registered, registry_of, subject_of
from brokers.registry.settings import WireSettings
from contracts.wire.format import WireFormat
from contracts.wire.frames import frame_for
from contracts.wire.topic_schema import topic_schema
from telemetry.background import running_beside
from telemetry.connections import once_there
from telemetry.health import DependencyState
from telemetry.logs import get_logger

LOOK_AGAIN = 60.0  # seconds between looks into the registry


class TopicFormat:
    """Of one topic. Without a registry it is what the settings say, and never changes."""

    def __init__(self, settings: WireSettings, topic: str, startup_timeout: float) -> None:
        """`startup_timeout`: seconds that a start waits for a registry that is away."""
        self._client = registry_of(settings) if settings.schema_registry_url else None
        self._framed = settings.kafka_wire_format == "confluent-json"
        self._topic = topic
        self._startup_timeout = startup_timeout
        self._schema_id: int | None = None
        self._trouble = self._changed = ""
        self._log = get_logger("command_side")
        self.wire = WireFormat(topic, cloud_events=settings.kafka_cloudevents)

    def has_registry(self) -> bool:
        """Whether there is a registry to ask."""
        return self._client is not None

    def changes_records(self) -> bool:
        """Whether records are not written as they are."""
        return self._framed or self.wire.cloud_events

    @asynccontextmanager
    async def known(self) -> AsyncIterator[None]:
        """Learns the id before the body, and looks again beside it. Raises RegistryRefusedError, RegistryAwayError."""
        if self._client is None:
            yield
            return
        try:
            await once_there("the schema registry", self._look, (RegistryAwayError,), self._startup_timeout)
        except (RegistryAwayError, RegistryRefusedError, TimeoutError) as error:
            self._log.error("schema_not_registered", subject=subject_of(self._topic), reason=str(error))
            raise
        async with running_beside(self._watch, "schema-registry"):
            yield

    async def state(self) -> DependencyState:
        """For health: a registry that is away, or another one, is told, and is no reason to refuse commands."""
        return DependencyState(ok=True, detail=" ".join(filter(None, (self._trouble, self._changed))))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            try:
                await self._look()
                self._trouble = ""
            except (RegistryAwayError, RegistryRefusedError) as error:
                if not self._trouble:
                    self._log.warning("schema_registry_not_asked", reason=str(error), goes_on_with=self._schema_id)
                self._trouble = f"{error} Records go on with schema id {self._schema_id}."

    async def _look(self) -> None:
        assert self._client is not None
        found = await registered(self._client, self._topic, topic_schema())
        if found == self._schema_id:
            return
        if self._schema_id is not None:
            self._log.error("schema_id_changed", before=self._schema_id, now=found)
            self._changed = (
                f"The schema registry has given the schema id {found}, which was {self._schema_id}: it lost its "
                f"content, or is another one. Restore it, so that readers find {self._schema_id} there."
            )
        self._schema_id = found
        if self._framed:
            self.wire = msgspec.structs.replace(self.wire, frame=frame_for(found))
