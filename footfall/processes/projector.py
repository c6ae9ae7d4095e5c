"""Runs `footfall projector` and maps its end to an exit code."""

import asyncio
import os
import signal
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop
from aiokafka.errors import KafkaError

from contracts.event import PERSONAL_FIELDS
from footfall.processes.environment import load_catalogue, load_settings, tracing
from footfall.processes.identity import Door, load_identity
from footfall.processes.own_sessions import require_own_sessions
from footfall.processes.sealing import load_keys
from footfall.processes.transport import load_transport
from projector import failpoints
from projector.app import ServeProbes, run_projector
from projector.consuming.loop_guard import EXIT_STUCK
from projector.liveness.watchdog import StuckError
from projector.settings import ProjectorSettings
from projector.writing.failure import DATABASE_ERRORS, OutsideError, describe_error, leaves
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
    door, transport = load_identity(settings.projector_host), load_transport(settings.projector_host)
    failpoints.arm(os.environ)
    catalogue = load_catalogue(settings.event_types_file)
    keys = load_keys()
    configure_logs(settings.log_level, PERSONAL_FIELDS | catalogue.personal_fields)
    require_own_sessions(settings.database_url.get_secret_value())
    with tracing("projector"):
        return exit_code_of(
            "projector",
            serving(
                "projector",
                (settings.projector_host, settings.projector_port),
                door,
                transport,
                lambda stop, probes: run_projector(settings, catalogue, stop, probes, keys),
            ),
        )


def exit_code_of(name: str, work: Coroutine[Any, Any, None]) -> int:
    """Runs a process that writes what it reads from the log; returns the exit code, and logs what ended it."""
    code = 0
    try:
        uvloop.run(work)
    except* StuckError:  # the watchdog has logged why
        code = EXIT_STUCK
    except* Exception as group:  # noqa: BLE001 - every error is logged
        get_logger(name).critical(f"{name}_failed", error=describe_error(group), where=_where(group))
        code = code or 1
    return code


def _where(group: BaseExceptionGroup) -> list[str]:
    """Returns the traceback lines of each error that is not a known error of a server, a target or the network."""
    ours = [error for error in leaves(group) if not isinstance(error, (*DATABASE_ERRORS, KafkaError, OutsideError))]
    return [line for error in ours for line in traceback.format_tb(error.__traceback__)]


Running = Callable[[asyncio.Event, ServeProbes], Coroutine[Any, Any, None]]


async def serving(name: str, address: tuple[str, int], door: Door, transport: Transport, running: Running) -> None:
    """Runs a process that writes what it reads from the log, until a signal, and serves its probes.

    Args:
        name: Of the process.
        address: Host and port of health and metrics.
        door: Who may ask for them.
        transport: TLS of the port.
        running: Runs until the event is set; it is given what serves probes.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    work = asyncio.current_task()
    assert work is not None

    def drain() -> None:
        stop.set()
        loop.call_later(DRAIN_DEADLINE, work.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain)
    tune_garbage_collection()

    @asynccontextmanager
    async def probes(found: Mapping[str, Probe]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for side in door.sides:
                await stack.enter_async_context(side.lifespan(None))
                found = {**found, **side.probes}
            await stack.enter_async_context(
                serving_probes(name, address, door.policy, found, [*door.proxies, *door.first], transport)
            )
            yield

    try:
        await running(stop, probes)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        get_logger(name).warning("drain_deadline_passed", seconds=DRAIN_DEADLINE)
