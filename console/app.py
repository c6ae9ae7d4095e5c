"""The console's composition root: what it looks at, what it shares, and the routes."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from litestar import Litestar, Response, Router
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from console.asking import AnyRequest, Asking, Console, PageError
from console.assets_route import asset
from console.looking.scrape import Scraper
from console.looking.watch import MakeKeys, Watch
from console.pages import ROUTES
from console.refusals import ConsoleRefusals
from console.sessions import Sessions
from console.settings import ConsoleSettings
from contracts.types import Catalogue
from projector.dead_letters.redrive_attempt import RedriveError
from projector.settings import ProjectorSettings
from query_side.app import NOT_REACHED
from read_model.audit import AuditUnavailableError
from read_model.connecting.database_url import Url
from read_model.connecting.pool import open_pool
from read_model.connecting.unavailable import DATABASE_UNAVAILABLE
from sealing.errors import KeysError
from telemetry.background import entered_beside
from telemetry.health import Probe
from telemetry.logs import get_logger
from web.asgi import App
from web.fast_handler import FastHandler
from web.policies.decisions import RequestPolicy

READ_ONLY = {"default_transaction_read_only": "on"}
WITHHELD = "The role of DATABASE_URL may not read what this page shows: docs/settings.md says what it must be."
AWAY_PAGE = "PostgreSQL does not answer now. The overview says more; this page works again when it does."


class ConsoleSide:
    """Everything of the console that an application needs."""

    direct_routes: Mapping[str, App] = {}
    raw_routes: Mapping[str, App] = {}
    fast_handlers: Mapping[bytes, FastHandler] = {}
    policies: Sequence[RequestPolicy] = ()
    probes: Mapping[str, Probe] = {}
    documents: Mapping[str, Callable[[], dict[str, Any]]] = {}

    def __init__(
        self,
        settings: ConsoleSettings,
        projecting: ProjectorSettings,
        catalogue: Catalogue,
        sessions: Sessions,
        keys: MakeKeys,
    ) -> None:
        """The console.

        Args:
            settings: Of this process.
            projecting: Names the servers for what looks; it is only read.
            catalogue: The event types.
            sessions: Who is signed in.
            keys: Reaches the key store.
        """
        key = settings.console_watch_key.get_secret_value()
        scraper = Scraper(settings.watched(), key, settings.console_watch_ca_file)
        self._settings = settings
        self._console = Console(
            settings, projecting, catalogue, sessions, Watch(projecting, catalogue, scraper, keys), keys
        )
        self.refusals = ConsoleRefusals(self._console)
        router = Router(
            "/",
            route_handlers=[*ROUTES, asset],
            dependencies={"console": Provide(lambda: self._console, sync_to_thread=False)},
            exception_handlers=error_pages(self._console),
            include_in_schema=False,
        )
        self.route_handlers: Sequence[ControllerRouterHandler] = [router]

    @asynccontextmanager
    async def lifespan(self, _app: Litestar) -> AsyncIterator[None]:
        """Looks from now on, whether PostgreSQL is there or not; pages that read it wait for the pools."""
        console = self._console
        console.pool = not_reached
        if self._settings.may_act():
            console.operators = not_reached
        async with entered_beside(self._pools, "pages"), console.watch.running(), console.history.running():
            try:
                yield
            finally:
                await console.jobs.close()

    @asynccontextmanager
    async def _pools(self) -> AsyncIterator[None]:
        """Their connections are opened when somebody first asks."""
        console = self._console
        async with AsyncExitStack() as stack:
            reading = await self._pool(self._settings.database_url, 6)
            stack.callback(reading.terminate)
            console.pool = lambda: reading
            if self._settings.may_act():
                operators = await self._pool(self._settings.operator_database_url, 3)
                stack.callback(operators.terminate)
                console.operators = lambda: operators
            yield

    async def _pool(self, url: Url, most: int) -> asyncpg.Pool:
        return await open_pool(
            url,
            application="footfall-console",
            min_size=0,
            max_size=most,
            query_timeout=self._settings.query_timeout_ms / 1000,
            server_settings=READ_ONLY,
            stateless=True,
        )


def not_reached() -> Any:
    """Instead of a pool. Raises what is raised for a connection that is lost."""
    raise asyncpg.InterfaceError(NOT_REACHED)


def error_pages(console: Console) -> dict[int | type[Exception], Any]:
    """What is shown for an error of a page. Functions: Litestar copies what it is given, with all that hangs on it."""

    def page_error(request: AnyRequest, error: PageError) -> Response[bytes]:
        return said(console.asking(request), error.status, str(error))

    def away(request: AnyRequest, error: Exception) -> Response[bytes]:
        get_logger("console").warning("page_without_database", error=type(error).__name__)
        says = WITHHELD if isinstance(error, asyncpg.InsufficientPrivilegeError) else AWAY_PAGE
        return said(console.asking(request), 503, says)

    def said(asking: Asking, status: int, says: str) -> Response[bytes]:
        again = asking.head.path if asking.head.method == "GET" else ""
        return asking.page("error.html", status, says=says, code=status, remedy="", again=again)

    def refused(request: AnyRequest, error: Exception) -> Response[bytes]:
        return said(console.asking(request), 503, str(error))

    return {
        PageError: page_error,
        **dict.fromkeys(DATABASE_UNAVAILABLE, away),
        **dict.fromkeys((RedriveError, KeysError, AuditUnavailableError), refused),
    }
