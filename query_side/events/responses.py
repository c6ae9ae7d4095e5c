"""Events over HTTP, in pages or all at once, in the format that the client prefers."""

import asyncio
from collections.abc import Callable

import asyncpg

from contracts.types import Catalogue
from query_side.api.asking import principal_of, tenant_of
from query_side.api.compression import ENCODED, LEAST_BYTES, VARY, Gzip, takes_gzip
from query_side.api.negotiation import CSV, JSON, chosen
from query_side.api.pending_bytes import Pace, WaitingBytes
from query_side.api.responses import BrokenStreamError, ClientGoneError, header, watch_for_departure
from query_side.api.shares import Places, held
from query_side.audit.recorder import AuditRecorder
from query_side.events import pages
from query_side.events.filters import DEFAULT_LIMIT, EventFilter, PageRequest, next_link, page_request
from query_side.events.formats import FILE_NAMES, FORMATS, RENDERINGS, JsonArray, Rendering, json_array, raw_csv
from query_side.log_positions.cursors import Cursors
from query_side.settings import QuerySettings
from read_model.audit import AuditEntry
from telemetry.logs import get_logger
from web.asgi import Headers, Receive, Scope, Send
from web.middleware import REQUEST_ID_KEY
from web.policies.access import FORBIDDEN
from web.policies.decisions import RefusedError
from web.policies.limits.shares import Share
from web.policies.principal import AccessScope, Principal

PROCESSED = "/events/processed"
BUSY = "Too many answers of all events are being streamed; try again shortly."
NO_RANGES = (b"accept-ranges", b"none")
FOREIGN_CURSOR = "Parameter `cursor` must come from the `Link` of a page of this same request; begin anew without it."


class EventPages:
    """`pool_of()` and `cursors_of()` give what the lifespan has opened."""

    def __init__(
        self,
        pool_of: Callable[[], asyncpg.Pool],
        cursors_of: Callable[[], Cursors],
        settings: QuerySettings,
        waiting: WaitingBytes,
        catalogue: Catalogue,
        recorder: AuditRecorder,
    ) -> None:
        self._recorder = recorder
        self._waiting = waiting
        self._event_types, self._declared = catalogue.names, catalogue.declares_views
        self._least, self._within = settings.export_least_bytes, settings.export_pace_ms / 1000
        self._pool_of = pool_of
        self._cursors_of = cursors_of
        self._exports = Places(settings.max_exports, BUSY)
        self._share = Share("exports", settings.max_exports, settings.principal_share_percent)
        self._query_timeout = settings.query_timeout_ms / 1000
        self._export_timeout = settings.export_timeout_ms / 1000

    async def processed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All events, or those that the parameters choose."""
        await self._answer(scope, receive, send, PROCESSED, page_request(scope["query_string"], self._event_types))

    async def of_user(self, scope: Scope, receive: Receive, send: Send, path: str, user_id: str) -> None:
        """One user's events; always a page unless the format is for exports. `path`: percent-encoded."""
        await self._answer(scope, receive, send, path, page_request(scope["query_string"], self._event_types, user_id))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, path: str, request: PageRequest) -> None:
        media_type = chosen(header(scope, b"accept")) if request.format is None else FORMATS[request.format]
        rendering = raw_csv() if media_type == CSV and request.csv == "raw" else RENDERINGS[media_type]()
        gzip = takes_gzip(header(scope, b"accept-encoding"))
        whole = request.limit is None and request.cursor is None
        # Clients of the original Express API ask for JSON without parameters and get all; a filter gives a page.
        if whole and (media_type != JSON or (request.filter == pages.EVERYTHING and not scope["query_string"])):
            await self._export(scope, receive, send, request.filter, rendering, gzip)
        else:
            await self._page(principal_of(scope), send, path, request, rendering, gzip)

    async def _page(
        self, principal: Principal, send: Send, path: str, request: PageRequest, rendering: Rendering, gzip: bool
    ) -> None:
        tenant_id = principal.tenant_id
        cursors = self._cursors_of().of(tenant_id)
        wanted, limit = request.filter, request.limit or DEFAULT_LIMIT
        bound_to = wanted.fingerprint()
        after = None
        if request.cursor is not None:
            payload = cursors.open(request.cursor, bound_to)
            if payload is None:
                raise RefusedError(400, errors=[FOREIGN_CURSOR])
            after = pages.unpacked(payload)
        body, last = await self._rendered(tenant_id, wanted, after, limit, rendering)
        headers = common_headers(rendering)
        if last is not None:
            cursor = cursors.seal(last.packed(), bound_to)
            headers.append((b"link", next_link(path, request, cursor, limit)))
        if gzip and rendering.compressible and len(body) >= LEAST_BYTES:
            body = Gzip().end(body)
            headers.append(ENCODED)
        await self._waiting.respond(send, principal, 200, body, rendering.content_type, *headers)

    async def _rendered(
        self, tenant_id: str, wanted: EventFilter, after: pages.Place | None, limit: int, rendering: Rendering
    ) -> tuple[bytes, pages.Place | None]:
        """The page's bytes, and nothing else of it: they may have to wait for their reader."""
        async with self._pool_of().acquire(timeout=self._query_timeout) as connection:
            found = await pages.fetch_page(connection, tenant_id, wanted, after, limit, declared=self._declared)
        events, last = found
        del found
        if type(rendering) is JsonArray:
            return json_array(events), last
        body = rendering.rows(("\n".join(events) + "\n").encode()) if events else b""
        return body + rendering.end(), last

    async def _export(
        self, scope: Scope, receive: Receive, send: Send, wanted: EventFilter, rendering: Rendering, gzip: bool
    ) -> None:
        if AccessScope.EXPORT not in principal_of(scope).scopes:
            lacking = FORBIDDEN[AccessScope.EXPORT]
            raise RefusedError(lacking.status, lacking.error, *lacking.headers)
        with self._exports.one():
            await self._permitted(scope, receive, send, wanted, rendering, gzip and rendering.compressible)

    async def _permitted(
        self, scope: Scope, receive: Receive, send: Send, wanted: EventFilter, rendering: Rendering, gzip: bool
    ) -> None:
        headers = [
            (b"content-type", rendering.content_type),
            *common_headers(rendering),
            *([ENCODED] if gzip else []),
        ]
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        with held(self._share, principal_of(scope)):
            await self._recorder.export(export_entry(principal_of(scope), wanted, rendering), scope[REQUEST_ID_KEY])
            await self._exported(receive, send, (tenant_of(scope), wanted), rendering, headers, gzip)

    async def _exported(
        self,
        receive: Receive,
        send: Send,
        asked: tuple[str, EventFilter],
        rendering: Rendering,
        headers: Headers,
        gzip: bool,
    ) -> None:
        async with self._pool_of().acquire(timeout=self._query_timeout) as connection:
            pace = Pace(send, self._least, self._within)
            stream = Stream(send, headers, rendering, Gzip() if gzip else None, pace)
            gone = watch_for_departure(receive)

            async def sink(lines: bytes) -> None:
                if gone.done():
                    raise ClientGoneError
                await stream.lines(lines)

            try:
                timeout = self._export_timeout
                await pages.export(connection, *asked, sink, timeout, declared=self._declared)
                await stream.end()
            except ClientGoneError:
                get_logger("query-side").info("export_abandoned_by_client")
            except BrokenStreamError:
                get_logger("query-side").info("export_client_too_slow", bytes=self._least, seconds=self._within)
                raise
            except Exception as error:
                if stream.begun:
                    raise BrokenStreamError from error
                raise
            finally:
                gone.cancel()


def export_entry(principal: Principal, wanted: EventFilter, rendering: Rendering) -> AuditEntry:
    """What the audit log says of an export: the format, and by what the events were chosen, without the values."""
    named = [name for name in ("product_id", "event_types", "since", "until") if getattr(wanted, name)]
    media_type = rendering.content_type.partition(b";")[0].decode()
    return AuditEntry(
        actor=principal.subject,
        action="export",
        outcome="done",
        tenant_id=principal.tenant_id,
        target=f"{media_type}{', by ' if named else ''}{', '.join(named)}",
        user_id=wanted.user_id,
    )


def common_headers(rendering: Rendering) -> list[tuple[bytes, bytes]]:
    """Of every answer of events. What is for files has a name; no part of an answer can be had by its bytes."""
    name = FILE_NAMES.get(rendering.content_type.partition(b";")[0].decode())
    disposition = [] if name is None else [(b"content-disposition", b'attachment; filename="%b"' % name.encode())]
    return [VARY, NO_RANGES, *disposition]


class Stream:
    """An answer of unknown length, begun with its first bytes, so that what fails before can still be refused."""

    def __init__(
        self,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        rendering: Rendering,
        gzip: Gzip | None,
        pace: Pace,
    ) -> None:
        self._send, self._headers, self._rendering, self._gzip = send, headers, rendering, gzip
        self._pace = pace
        self.begun = False

    async def lines(self, lines: bytes) -> None:
        """Renders and sends the next events, beside the event loop where that takes long."""
        if self._rendering.slow or self._gzip is not None:
            body = await asyncio.to_thread(self._rendered, lines)
        else:
            body = self._rendering.rows(lines)
        if body:
            await self._begin()
            await self._pace.give(body)

    async def end(self) -> None:
        """Sends the rest."""
        rest = await asyncio.to_thread(self._rendering.end) if self._rendering.slow else self._rendering.end()
        await self._begin()
        await self._pace.give(self._gzip.end(rest) if self._gzip else rest)
        await self._send({"type": "http.response.body", "body": b""})

    def _rendered(self, lines: bytes) -> bytes:
        rows = self._rendering.rows(lines)
        return self._gzip.more(rows) if self._gzip else rows

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
