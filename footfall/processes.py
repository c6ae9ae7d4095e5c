"""The processes of Footfall, each as one function that runs it to its end and returns its exit code."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

import asyncpg
import uvloop
from aiokafka.errors import KafkaError
from pydantic import Field

from command_side.app import CommandSide
from command_side.settings import CommandSettings
from contracts.event import PERSONAL_FIELDS
from footfall.environment import load_settings
from footfall.serve import serve, serving_probes, tune_garbage_collection
from footfall.web import web_app
from projector import failpoints
from projector.app import run_projector
from projector.loop_guard import EXIT_STUCK
from projector.settings import ProjectorSettings
from projector.watchdog import StuckError
from query_side.app import QuerySide
from query_side.settings import QuerySettings
from telemetry.health import Probe
from telemetry.logs import configure_logs, get_logger

DRAIN_DEADLINE = 9.0  # seconds from the signal to the end of the process, whatever still hangs


def run_command_side(port: int | None) -> int:
    """Serves the command side until SIGTERM or SIGINT."""
    settings = load_settings(CommandSettings, port=port)
    configure_logs(settings.log_level, PERSONAL_FIELDS)
    return serve(web_app("command-side", CommandSide(settings)), settings.host, settings.port)


def run_query_side(port: int | None) -> int:
    """Serves the query side until SIGTERM or SIGINT."""
    settings = load_settings(QuerySettings, port=port)
    configure_logs(settings.log_level, PERSONAL_FIELDS)
    side = QuerySide(settings)
    return serve(web_app("query-side", side, guard=side.guard), settings.host, settings.port, side.end_streams)


class FrontSettings(CommandSettings, QuerySettings):
    """Settings of both sides in one process."""

    port: int = Field(default=3000, ge=0, le=65_535, description="Port to listen on.")


def run_front(port: int | None) -> int:
    """Serves both sides from one process, as the seed's clients know it."""
    settings = load_settings(FrontSettings, port=port)
    configure_logs(settings.log_level, PERSONAL_FIELDS)
    queries = QuerySide(settings)
    app = web_app("front", CommandSide(settings), queries, guard=queries.guard)
    return serve(app, settings.host, settings.port, queries.end_streams)


def run_projector_process(port: int | None) -> int:
    """Projects until SIGTERM or SIGINT: the batch in hand is committed first."""
    settings = load_settings(ProjectorSettings, projector_port=port)
    failpoints.arm(os.environ)
    configure_logs(settings.log_level, PERSONAL_FIELDS)
    code = 0
    try:
        uvloop.run(_projecting(settings))
    except* (OSError, asyncpg.PostgresError, KafkaError) as group:
        for error in group.exceptions:
            get_logger("projector").critical("projector_failed", error=f"{type(error).__name__}: {error}")
        code = 1
    except* StuckError:  # the watchdog has said why
        code = EXIT_STUCK
    return code


async def _projecting(settings: ProjectorSettings) -> None:
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

    def probes(found: Mapping[str, Probe]) -> AbstractAsyncContextManager[None]:
        return serving_probes("projector", settings.projector_host, settings.projector_port, found)

    try:
        await run_projector(settings, stop, probes)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        get_logger("projector").warning("drain_deadline_passed", seconds=DRAIN_DEADLINE)
