"""What checking keys brings to a process: a reader that runs while it serves, and a probe."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from identity.keys.reader import RegisterReader
from telemetry.health import Probe
from web.asgi import App
from web.fast_handler import FastHandler
from web.policies.decisions import RequestPolicy


class KeySide:
    """A side of the application (`web.application.Side`) without a route."""

    route_handlers: Sequence[Any] = ()
    direct_routes: Mapping[str, App] = {}
    raw_routes: Mapping[str, App] = {}
    fast_handlers: Mapping[bytes, FastHandler] = {}
    policies: Sequence[RequestPolicy] = ()
    documents: Mapping[str, Callable[[], dict[str, Any]]] = {}

    def __init__(self, reader: RegisterReader) -> None:
        self._reader = reader
        self.probes: Mapping[str, Probe] = {"keys": reader.state}

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Reads the register while the process serves."""
        async with self._reader.running():
            yield
