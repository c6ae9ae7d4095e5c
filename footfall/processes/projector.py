"""Runs `footfall projector` and maps its end to an exit code."""

import asyncio
import os
import signal
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop
from aiokafka.errors import KafkaError

from contracts.event import PERSONAL_FIELDS
from contracts.types import Catalogue
from footfall.processes.environment import load_catalogue, load_settings, tracing
from footfall.processes.identity import Door, load_identity
from footfall.processes.own_sessions import require_own_sessions
from footfall.processes.sealing import load_keys
from footfall.processes.transport import load_transport
from projector import failpoints
from projector.app import run_projector
from projector.consuming.loop_guard import EXIT_STUCK
from projector.liveness.watchdog import StuckError
from projector.sealed.keys import Keys
from projector.settings import ProjectorSettings
from projector.writing.failure import DATABASE_ERRORS, describe_error, leaves
from telemetry.health import Probe
from telemetry.logs import configure_logs, get_logger
from web.server import serving_probes, tune_garbage_collection
from web.transport.transport import Transport

DRAIN_DEADLINE = 9.0  # seconds from the signal until the process is ended, even if something hangs


def run_projector_process(port: int | None) -> int:
    """Projects until SIGTERM or SIGINT, commits the batch that is being processed, and returns the exit code.

    Returns:
        0 after a signal, `EXIT_STUCK` if the watchdog ended it, 1 after any other error.
    """
    settings = load_settings(ProjectorSettings, projector_port=port)
    door, transport = load_identity(settings.projector_host), load_transport()
    failpoints.arm(os.environ)
    catalogue = load_catalogue(settings.event_types_file)
    keys = load_keys()
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    require_own_sessions(settings.database_url.get_secret_value())
    code = 0
    try:
        with tracing("projector"):
            uvloop.run(_projecting(settings, catalogue, door, transport, keys))
    except* StuckError:  # the watchdog has logged why
        code = EXIT_STUCK
    except* Exception as group:  # noqa: BLE001 - every error is logged
        get_logger("projector").critical("projector_failed", error=describe_error(group), where=_where(group))
        code = code or 1
    return code


def _where(group: BaseExceptionGroup) -> list[str]:
    """Returns the traceback lines of each error that is not a known error of a server or the network."""
    ours = [error for error in leaves(group) if not isinstance(error, (*DATABASE_ERRORS, KafkaError))]
    return [line for error in ours for line in traceback.format_tb(error.__traceback__)]


async def _projecting(
    settings: ProjectorSettings, catalogue: Catalogue, door: Door, transport: Transport, keys: Keys | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    work = asyncio.current_task()
    assert work is not None

    def drain() -> None:
        stop.set()
        loop.call_later(DRAIN_DEADLINE, work.cancel)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, drain)
    tune_garbage_collection()

    address = settings.projector_host, settings.projector_port

    @asynccontextmanager
    async def probes(found: Mapping[str, Probe]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for side in door.sides:
                await stack.enter_async_context(side.lifespan(None))
                found = {**found, **side.probes}
            await stack.enter_async_context(
                serving_probes("projector", address, door.policy, found, [*door.proxies, *door.first], transport)
            )
            yield

    try:
        await run_projector(settings, catalogue, stop, probes, keys)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        get_logger("projector").warning("drain_deadline_passed", seconds=DRAIN_DEADLINE)
