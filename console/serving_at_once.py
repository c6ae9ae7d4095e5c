"""A side in the console's process that serves before PostgreSQL is there: an operator needs the console then most."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar

from telemetry.background import entered_beside
from web.application import Side


class ServingAtOnce:
    """Another side, whose lifespan begins as soon as it can, while the process serves. Until then it answers 503."""

    def __init__(self, side: Side, name: str) -> None:
        """`name`: of the side, in the log."""
        self._side, self._name = side, name
        self.route_handlers, self.policies = side.route_handlers, side.policies
        self.direct_routes, self.raw_routes = side.direct_routes, side.raw_routes
        self.fast_handlers, self.probes, self.documents = side.fast_handlers, side.probes, side.documents

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Waits for nothing."""
        async with entered_beside(lambda: self._side.lifespan(app), self._name):
            yield
