"""The composition root of a sink: builds everything, runs it, closes it in order."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import uuid_utils

from contracts.types import Catalogue
from projector.app import ServeProbes, register, watched
from read_model.connecting.unavailable import NOT_YET_THERE
from sinks.guarded import Guarded
from sinks.holder import Holder, SinkTakenError, holding
from sinks.loop import SinkLoop, open_sink
from sinks.settings import SinkSettings
from sinks.target import Target, TargetAwayError, copy_of
from telemetry.connections import once_there
from telemetry.logs import get_logger


async def run_sink(
    settings: SinkSettings,
    catalogue: Catalogue,
    name: str,
    target: Target,
    stop: asyncio.Event,
    serve_probes: ServeProbes,
    *,
    anew: bool,
) -> None:
    """Writes the log into a target until `stop` is set, and ends after the batch in hand.

    Args:
        settings: Of the sink.
        catalogue: The event types.
        name: The schema of the sink's checkpoints.
        target: What to write to.
        stop: Ends it.
        serve_probes: Serves health and metrics.
        anew: Begin at the beginning of the log.

    Raises:
        SinkTakenError: Another process writes the sink, and goes on.
        AnotherTargetError: Another process writes the sink of this name into another target.
        TargetGoneError: The target was deleted, or is another one; the next start writes everything again.
        Exception: A server cannot be reached within `startup_timeout_ms`, or the sink's loop failed.
    """
    guarded = Guarded(target)
    async with (
        register(settings) as pool,
        _held(settings, name, guarded) as holder,
        _opened(guarded, settings) as target_id,
    ):
        await holder.opened(target_id, anew=anew)
        if await open_sink(pool, name, target_id, anew=anew):
            get_logger("sink").info("sink_begins", sink=name, target=str(target_id))
        await holder.let_others()
        loop = SinkLoop(settings, catalogue, name, guarded, target_id)
        async with (
            watched(settings, catalogue, pool, lambda: loop, serve_probes, {"target": guarded.state}),
            _during(holder.watch(target_id)),
            _during(_begin_anew_when_gone(settings, name, guarded, pool)),
        ):
            await loop.run(stop)
    get_logger("sink").info("stopped")


@asynccontextmanager
async def _held(settings: SinkSettings, name: str, target: Target) -> AsyncIterator[Holder]:
    """Holds the sink, and waits up to `startup_timeout_ms` for a process that has it."""
    async with holding(settings.database_url, name, one_only=target.one_only) as holder:
        away: tuple[type[Exception], ...] = (SinkTakenError, *NOT_YET_THERE)
        await once_there("the sink", holder.take, away, settings.startup_timeout_ms / 1000)
        yield holder


@asynccontextmanager
async def _during(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `watch` during the body; its error ends the body."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch)
        yield
        task.cancel()


async def _begin_anew_when_gone(settings: SinkSettings, name: str, target: Guarded, pool: Any) -> None:
    """Waits until the target is another one. Then lets the next start write everything again, and raises why.

    The register gets a target that there is not: whoever writes the sink notices, and whoever opens it begins anew.
    """
    why = await target.gone()
    nobody, within = UUID(int=uuid_utils.uuid7().int), settings.startup_timeout_ms / 1000
    await once_there("PostgreSQL", lambda: open_sink(pool, name, nobody, anew=True), NOT_YET_THERE, within)
    raise why


@asynccontextmanager
async def _opened(target: Target, settings: SinkSettings) -> AsyncIterator[Any]:
    """Opens the target, and waits up to `startup_timeout_ms` for it."""
    found = await once_there("the target", target.open, (TargetAwayError,), settings.startup_timeout_ms / 1000)
    try:
        yield copy_of(found, settings.tenants)
    finally:
        await target.close()
