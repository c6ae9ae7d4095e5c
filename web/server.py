"""Serving ASGI applications with uvicorn, and ending well."""

import asyncio
import ctypes
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import FrameType
from typing import cast

import uvicorn

from telemetry.health import Probe
from telemetry.logs import get_logger
from web.asgi import App
from web.health import only_probes
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.decisions import RequestPolicy
from web.policies.identity import with_probes_of
from web.protocol.bounded_http import LOOK_INTERVAL, BoundedHttp
from web.protocol.connection_places import ConnectionPlaces, Place, close_overdue
from web.protocol.fast_path import FastHttp
from web.protocol.known_uvicorn import require_known_uvicorn
from web.protocol.refusals import PLAIN_TO_TLS, Refusals, refused
from web.transport.certificate import ServerCertificate
from web.transport.open_files import connections_allowed
from web.transport.transport import PLAIN, Transport

GRACE = 8  # seconds for requests in flight after SIGTERM; the whole process ends within 10
KEEP_ALIVE = 75  # seconds
MAX_CONNECTIONS = 4_000
PROBE_CONNECTIONS = 100  # where only probes are served
M_MMAP_THRESHOLD, LARGE_BLOCK = -3, 262_144  # of malloc.h; bytes
EVERY_ADDRESS = "::"  # of IPv6 and of IPv4, as Linux, Go and Java have it; asyncio's `::` is of IPv6 only
BACKLOG = 2048  # connections waiting to be accepted
TICKS_BETWEEN_LOOKS = round(LOOK_INTERVAL / 0.1)  # uvicorn ticks ten times a second
TICKS_BETWEEN_TRIMS = 100  # ten seconds


class Server(uvicorn.Server):
    """uvicorn's server, except that a signal it obeyed is not raised again: a drained process exits 0."""

    asked_to_end = False
    _starting: "asyncio.Task[None] | None" = None
    _trimming: "asyncio.Future[None] | None" = None
    on_exit: Callable[[], None] = staticmethod(lambda: None)  # called once it is asked to end, before it waits
    certificate: ServerCertificate | None = None  # None: plain HTTP

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops accepting; a second Ctrl-C stops waiting for requests in flight."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = self.asked_to_end = True
        if not self.started and self._starting is not None:  # it may be waiting for a server that is away
            self._starting.get_loop().call_soon_threadsafe(self._starting.cancel)
        self.on_exit()

    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        """As uvicorn's, except that a signal ends it, and that it says where it cannot listen."""
        self._starting = asyncio.current_task()
        try:
            await super().startup(sockets)
        except SystemExit:
            if not self.lifespan.should_exit:  # the application had started
                host, port = self.config.host or EVERY_ADDRESS, self.config.port
                get_logger("web").error("cannot_listen", host=host, port=port)
            raise

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's clock: connections that are overdue end with it, and free memory goes back to the system."""
        if counter % TICKS_BETWEEN_TRIMS == TICKS_BETWEEN_TRIMS - 1:  # not at the start
            self._trimming = asyncio.get_running_loop().run_in_executor(None, trim_memory)
        if counter % TICKS_BETWEEN_LOOKS == 0:
            places = cast("Iterable[Place]", self.server_state.connections)
            close_overdue(places, asyncio.get_running_loop().time())
            if self.certificate is not None:
                self.certificate.reload_if_changed()
        return await super().on_tick(counter)

    async def serve_unsignalled(self) -> None:
        """Serves as a part of a process that handles its own signals."""
        await self._serve()


def server_of(
    app: App,
    host: str,
    port: int,
    max_connections: int,
    max_of_address: int = 0,
    certificate: ServerCertificate | None = None,
) -> Server:
    """A server that drains within `GRACE` and logs through us. Raises UnknownUvicornError."""
    require_known_uvicorn()
    places = ConnectionPlaces(max_connections, max_of_address)
    http: Callable[..., BoundedHttp] = partial(BoundedHttp, places=places)
    if isinstance(app, Middleware):
        http = partial(FastHttp, places=places, answer_to=Refusals(app.unparsed), middleware=app)
    server = Server(
        uvicorn.Config(
            app,
            host="" if host == EVERY_ADDRESS else host,
            port=port,
            loop="uvloop" if certificate is None else "web.transport.handshakes:BoundedHandshakes",
            http=http,  # type: ignore[arg-type]
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # uvicorn believes whoever asks from loopback; see TRUSTED_PROXIES
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            ssl_context_factory=None if certificate is None else lambda _config, _usual: certificate.context,
        )
    )
    if certificate is not None:
        certificate.context.answer_in_plain = lambda: refused(PLAIN_TO_TLS, None, "http")
    server.certificate = certificate
    return server


def serve(
    app: Middleware,
    host: str,
    port: int,
    max_connections: int = MAX_CONNECTIONS,
    on_exit: Callable[[], None] = lambda: None,
    max_of_address: int = 0,
    certificate: ServerCertificate | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code: 0 after a drain, 1 when it could not start.

    `on_exit` ends what would otherwise never end; it is called from a signal handler. `max_of_address`: connections of
    one address; 0: as many as of all.
    """
    server = server_of(app, host, port, connections_allowed(max_connections), max_of_address, certificate)
    server.on_exit = on_exit
    return run(server)


def run(server: Server) -> int:
    """Runs a server as the only work of this process; returns the exit code, see `serve`."""
    tune_garbage_collection()
    give_memory_back()
    with suppress(SystemExit, asyncio.CancelledError):  # uvicorn's own code for a failed start is 3
        server.run()
    return 0 if server.started or server.asked_to_end else 1


def give_memory_back() -> None:
    """Large blocks go back to the system once they are freed: glibc's own threshold grows with what it has seen."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def trim_memory() -> None:
    """Gives back the free pages between blocks in use, of which glibc keeps those of a burst for ever.

    It takes 0.3 ms, and 0.4 ms for each MiB that goes back; in a thread, because malloc may wait for it.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def tune_garbage_collection() -> None:
    """Keeps the collector off what lives for ever and from running in the middle of every burst (p99)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@asynccontextmanager
async def serving_probes(
    side: str,
    address: tuple[str, int],
    identity: RequestPolicy,
    probes: Mapping[str, Probe],
    first: Sequence[RequestPolicy] = (),
    transport: Transport = PLAIN,
) -> AsyncIterator[None]:
    """Serves only the probe endpoints while the body runs, on the running loop. `identity`, `first`: see `web_app`."""
    probes = {**with_probes_of(identity, probes), **transport.probes()}
    policies = [*transport.policies(), *first, identity, check_access]
    middleware = Middleware(only_probes, side, probes, policies=policies, unparsed=transport.policies())
    server = server_of(middleware, *address, PROBE_CONNECTIONS, certificate=transport.certificate)
    task = asyncio.create_task(server.serve_unsignalled())
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=GRACE)
        if task.done() and task.exception() is not None:
            get_logger(side).warning("probe_server_failed", error=type(task.exception()).__name__)
