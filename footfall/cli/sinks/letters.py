"""A sink's dead letters for `footfall dlq --sink`: whose they are, and how they are written into its engine again."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from contracts.types import Catalogue
from footfall.cli.settings import operator_settings
from footfall.processes.sink import KINDS, schema_of
from operations.dead_letters import discard_of_sink, redrive_of_sink
from operations.settings import DlqSettings
from projector.dead_letters.letter_filter import LetterFilter
from projector.dead_letters.redrive import LetterOutcome, Options
from projector.sealed.keys import Keys
from sinks.guarded import Guarded
from sinks.sealed import Stubs
from sinks.settings import SinkSettings
from sinks.target import TargetAwayError, copy_of
from sinks.writer import SinkWriter
from telemetry.connections import once_there

PATIENCE = 10.0  # seconds; a sink that runs closes its file a second after its last batch


def settings_of(kind: str) -> tuple[DlqSettings, str]:
    """Returns the settings of `footfall dlq`, and the schema of the sink that the environment means."""
    found = operator_settings(SinkSettings, "projector")
    own = DlqSettings.model_construct(database_url=found.database_url, event_types_file=found.event_types_file)
    return own, schema_of(kind, found)


class Deal(Protocol):
    """Deals with letters, as `redrive_letters` and `discard_letters` do."""

    def __call__(
        self,
        settings: DlqSettings,
        catalogue: Catalogue,
        chosen: LetterFilter,
        options: Options,
        progress: Callable[[int], None],
        keys: Keys | None,
        /,
    ) -> Coroutine[Any, Any, list[LetterOutcome]]:
        """Returns the outcome of each letter."""
        ...


def redriving(kind: str) -> Deal:
    """Returns what writes letters of a sink into its engine."""

    async def deal(
        settings: DlqSettings,
        catalogue: Catalogue,
        chosen: LetterFilter,
        options: Options,
        progress: Callable[[int], None],
        _: object,
        /,
    ) -> list[LetterOutcome]:
        sink = operator_settings(SinkSettings, "projector")
        target = Guarded(KINDS[kind](sink))
        try:
            found = await once_there("the target", target.open, (TargetAwayError,), PATIENCE)
            target_id = copy_of(found, sink.tenants)
            writer = SinkWriter(schema_of(kind, sink), catalogue, target, target_id, sink.tenants)
            return await redrive_of_sink(settings, chosen, options, progress, writer, Stubs(catalogue.product_fields))
        finally:
            await target.close()

    return deal


def discarding(kind: str) -> Deal:
    """Returns what discards letters of a sink."""
    _, name = settings_of(kind)

    async def deal(
        settings: DlqSettings,
        catalogue: Catalogue,
        chosen: LetterFilter,
        options: Options,
        progress: Callable[[int], None],
        _: object,
        /,
    ) -> list[LetterOutcome]:
        return await discard_of_sink(settings, catalogue, chosen, options, progress, name)

    return deal
