"""What checking keys brings to a process: a reader that runs while it serves, and a probe."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from identity.keys.reader import RegisterReader
from identity.keys.uses import KeyUses
from telemetry.health import DependencyState, Probe
from telemetry.metrics import KEY_LAST_USE
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

    def __init__(self, reader: RegisterReader, uses: KeyUses) -> None:
        self._reader = reader
        self._uses = uses
        self.probes: Mapping[str, Probe] = {"keys": self._state}

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Reads the register while the process serves."""
        async with self._reader.running():
            yield

    async def _state(self) -> DependencyState:
        """For health; metrics are asked for behind it."""
        for key_id, at in self._uses.last.items():
            KEY_LAST_USE.labels(key=key_id).set(at)
        return await self._reader.state()
