"""The query side's composition root: the pool and the routes that read from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from litestar import Litestar
from litestar.types import ControllerRouterHandler

from contracts.types import Catalogue
from query_side.activity.kept_answers import KeptAnswers, cache_of
from query_side.activity.routes import ACTIVITY_ROUTES
from query_side.api.dependencies import dependencies_of
from query_side.api.pending_bytes import WaitingBytes
from query_side.api.reading import reading_router
from query_side.audit.recorder import AuditRecorder
from query_side.events import queries
from query_side.events.responses import PROCESSED, EventPages
from query_side.events.routes import EventRoutes
from query_side.feed.live_reads import LiveReads
from query_side.feed.status_route import event_status
from query_side.log_positions.cursors import Cursors, cursors_of
from query_side.log_positions.stopped_partitions import stopped_partitions
from query_side.openapi.document import DOCUMENT, document, rendered
from query_side.settings import QuerySettings
from query_side.tracing import record_query
from read_model.connecting.pool import open_pool
from read_model.connecting.unavailable import NOT_YET_THERE
from read_model.generations.event_types import event_types_in_use
from read_model.tables.schema_version import newest_migration, schema_state
from telemetry.connections import once_there
from telemetry.health import DependencyState
from telemetry.metrics import PROCESSED_EVENTS, REFUSAL_TALLY
from telemetry.traces.tracing import TRACING
from web.asgi import App
from web.documents import document_route
from web.fast_handler import FastHandler
from web.policies.decisions import RequestPolicy
from web.policies.limits.turns import Turns
from web.tenants.position_tokens import PositionTokens

NOT_REACHED = "PostgreSQL was not reached yet"

# Every hot query walks one range of one index in its order and stops early. What the planner would rather do, to gather
# a whole range and sort it, costs more the more there is. So no statement needs a plan for its arguments; the planner
# would make one for each page of a large table, as it takes an unknown LIMIT for a tenth of all rows: 0.7 of 2.4 ms.
SESSION = {
    "default_transaction_read_only": "on",
    "enable_bitmapscan": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
}


class QuerySide:
    """Everything of the query side that an application needs."""

    def __init__(self, settings: QuerySettings, catalogue: Catalogue, identity: RequestPolicy) -> None:
        """`identity`: of the process; what lasts asks it again whether its client may still ask."""
        self._settings = settings
        self._catalogue, event_types = catalogue, catalogue.names
        self._opened: asyncpg.Pool | None = None
        self._schema = newest_migration()
        self._sealed: Cursors | None = None
        self._recorder = AuditRecorder(self._open_for_audit, REFUSAL_TALLY)
        waiting = WaitingBytes(settings.max_waiting_bytes, settings.principal_share_percent)
        pages = EventPages(self._pool, self._cursors, settings, waiting, catalogue, self._recorder)
        timeout = settings.query_timeout_ms / 1000
        tokens = PositionTokens(
            settings.position_secret.get_secret_value(), settings.position_secret_also.get_secret_value()
        )
        self._live = LiveReads(self._pool, self._cursors, tokens, settings, waiting, event_types, identity)
        events = EventRoutes(self._pool, pages, timeout)
        self._cache = cache_of(settings)
        kept = KeptAnswers(self._cache, settings.kafka_topic)
        given = dependencies_of(self._pool, self._cursors, lambda: self._live.statuses, tokens, kept, timeout)
        typed = reading_router([*ACTIVITY_ROUTES, event_status], given, waiting, event_types)
        self.route_handlers: list[ControllerRouterHandler] = [
            typed,
            document_route(DOCUMENT, partial(rendered, catalogue)),
        ]
        self.raw_routes: dict[str, App] = {**events.raw_routes(), **self._live.raw_routes()}
        self.fast_handlers: dict[bytes, FastHandler] = {}
        # Past what else is before the routes.
        self.direct_routes: dict[str, App] = {PROCESSED: self.raw_routes[PROCESSED]}
        # Who waits for a position has no turn yet.
        self.policies: list[RequestPolicy] = [self._live.policy, Turns(settings.query_pool_size)]
        self.probes = {"postgres": self._postgres_state}
        if self._cache is not None:
            self.probes["kept answers"] = self._cache.state
        self.documents = {DOCUMENT: partial(document, catalogue)}

    @asynccontextmanager
    async def lifespan(self, _app: Litestar) -> AsyncIterator[None]:
        """Opens the pool; closes it, and with it every stream that still runs, on the way out."""
        patience = self._settings.startup_timeout_ms / 1000
        self._opened = await once_there("PostgreSQL", self._open, NOT_YET_THERE, patience)
        try:
            self._sealed = await cursors_of(
                self._opened,
                self._settings.cursor_secret.get_secret_value(),
                self._settings.cursor_secret_also.get_secret_value(),
            )
            async with self._live.running(), self._recorder.running():
                yield
        finally:
            self._opened.terminate()
            if self._cache is not None:
                await self._cache.close()

    async def _open(self) -> asyncpg.Pool:
        return await open_pool(
            self._settings.reading_url(),
            application="footfall-query-side",
            min_size=2,
            max_size=self._settings.query_pool_size + self._settings.max_exports,  # exports starve no lookup
            query_timeout=self._settings.query_timeout_ms / 1000,
            server_settings=SESSION,
            stateless=True,
            setup=self._prepare,
        )

    async def _prepare(self, connection: Any) -> None:
        """Before each use of a connection."""
        if TRACING.recorder is not None:
            connection.add_query_logger(record_query)  # once: a set keeps them
        await self._live.confirm(connection)

    async def _open_for_audit(self) -> asyncpg.Pool:
        """To the primary, also beside a replica. The role stays one that can only read, and call one function."""
        return await open_pool(
            self._settings.database_url,
            application="footfall-query-side-audit",
            min_size=0,
            max_size=2,
            query_timeout=self._settings.query_timeout_ms / 1000,
            server_settings={"default_transaction_read_only": "off"},
            stateless=True,
        )

    def end_streams(self) -> None:
        """Ends what would otherwise never end. May be called from a signal handler."""
        self._live.end_streams()

    def _pool(self) -> asyncpg.Pool:
        if self._opened is None:  # a console serves before it has reached PostgreSQL
            raise asyncpg.InterfaceError(NOT_REACHED)
        return self._opened

    def _cursors(self) -> Cursors:
        if self._sealed is None:
            raise asyncpg.InterfaceError(NOT_REACHED)
        return self._sealed

    async def _postgres_state(self) -> DependencyState:
        schema = await schema_state(self._pool(), self._schema)
        if not schema.usable:
            return DependencyState(ok=False, detail=schema.detail)
        PROCESSED_EVENTS.set(await queries.count_processed_events(self._pool()))
        types = self._catalogue.words(await event_types_in_use(self._pool()))
        # Ok all the same: what is there is answered rightly, and another process would answer nothing else.
        stopped = await stopped_partitions(self._pool(), self._settings.kafka_topic)
        return DependencyState(ok=True, detail="; ".join(filter(None, (schema.detail, types, stopped))))
