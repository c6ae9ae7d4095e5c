"""One request to the console: who asks, what for, and how it is answered."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from console.actions.jobs import Jobs
from console.actions.predictions import Predictions
from console.looking.history import History
from console.looking.watch import MakeKeys, Watch
from console.rendering import HEADERS, rendered
from console.sessions import LOOKING_ON, Sessions
from console.settings import ConsoleSettings
from contracts.types import Catalogue
from projector.settings import ProjectorSettings
from web.access import ACCESS
from web.middleware import REQUEST_ID_KEY
from web.policies.identity import NOBODY
from web.policies.origins import is_of_host
from web.policies.passage import HEAD_KEY
from web.policies.principal import AccessScope, KnownBefore, Principal
from web.policies.request_head import RequestHead

MAX_FIELDS = 60
MAX_FORM_BYTES = 65_536
HTML = "text/html"  # Litestar adds the charset
NAVIGATION = (
    ("/console", "Overview"),
    ("/console/live", "Live"),
    ("/console/find", "Find"),
    ("/console/activity", "Activity"),
    ("/console/dead-letters", "Dead letters"),
    ("/console/rebuilds", "Rebuilds"),
    ("/console/projectors", "Projectors"),
    ("/console/settings", "Settings"),
)
TOKEN = "token"  # noqa: S105 - the name of the form's field
ELSEWHERE = (
    "This form came from somewhere else, or is too old, so nothing was done. Open the page again, and repeat what "
    "you did."
)
ANOTHER_PROCESS = (
    "Another console process gave this form, so nothing was done. Open the page again, and repeat what you did. If "
    "that does not help, several processes answer in turn: a proxy before them has to lead each browser to the same "
    "one (docs/console.md)."
)
FOREIGN = (
    "This form came from a page of another host than the header `Host` names, so nothing was done. A proxy before the "
    "console has to pass on the browser's `Host` with its port (nginx: proxy_set_header Host $http_host)."
)
TOO_SLOW = "The form took too long to arrive, and nothing was done. Send it again."
FORM_TIMEOUT = 10.0  # seconds
ONLY_LOOKS = "This console only looks: OPERATOR_DATABASE_URL is not set in its process."

AnyRequest = Request[Any, Any, Any]


class PageError(Exception):
    """A page that cannot be shown, or something that cannot be done; the text says why, and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Console:
    """What the pages share: settings, what was seen, the connections."""

    def __init__(
        self,
        settings: ConsoleSettings,
        projecting: ProjectorSettings,
        catalogue: Catalogue,
        sessions: Sessions,
        watch: Watch,
        keys: MakeKeys,
    ) -> None:
        self.settings, self.projecting, self.catalogue = settings, projecting, catalogue
        self.sessions, self.watch, self.keys = sessions, watch, keys
        self.jobs = Jobs()
        self.predictions = Predictions()
        self.history = History(settings, watch)
        self.now: tuple[tuple[int, int], bytes] = (-1, 0), b""  # what all see of the overview; of which look and time
        self.searching = asyncio.Lock()  # of who searches the log
        self.pool: Callable[[], Any] = lambda: None  # reads as DATABASE_URL
        self.operators: Callable[[], Any] = lambda: None  # reads as OPERATOR_DATABASE_URL; None: it is not set

    def asking(self, request: AnyRequest) -> "Asking":
        """Reads a request."""
        scope: Any = request.scope
        return Asking(self, scope[HEAD_KEY], scope.get(REQUEST_ID_KEY, ""), request)


TheConsole = NamedDependency[SkipValidation[Console]]


class Asking:
    """Who asks, and for what."""

    def __init__(self, console: Console, head: RequestHead, request_id: str, request: AnyRequest | None = None) -> None:
        """`request`: None for what was refused before it came to a page; then nobody may be known who asks."""
        self.console, self.request = console, request
        self.head, self.request_id = head, request_id
        self.principal: Principal = head.facts.get(Principal, NOBODY) if request is None else head.fact(Principal)
        self.known_before = head.facts.get(KnownBefore)
        self.is_operator = AccessScope.OPERATOR in self.principal.scopes
        self.can_act = self.is_operator and console.settings.may_act()
        self.query: Mapping[str, str] = fields_of(head.query)

    @property
    def tenant(self) -> str | None:
        """Whose data may be shown; None: of every tenant."""
        return None if self.is_operator else self.principal.tenant_id

    def may_see(self, path: str) -> bool:
        """Whether this page is for who asks."""
        return ACCESS[path] in self.principal.scopes and (self.known_before is None or path in LOOKING_ON)

    @property
    def is_partial(self) -> bool:
        """Whether a page that is open asks for a part of it."""
        return any(name == b"hx-request" for name, _ in self.head.headers)

    def actor(self) -> str:
        """Who, for journal and audit log."""
        return f"{self.principal.subject} by console"

    def page(self, template: str, status: int = 200, **given: Any) -> Response[bytes]:
        """A whole page."""
        return Response(self.text(template, **given).encode(), status_code=status, media_type=HTML, headers=HEADERS)

    def text(self, template: str, **given: Any) -> str:
        """What a template gives with what every template knows."""
        is_open = self.console.sessions.is_open
        return rendered(
            template,
            **{
                "asking": self,
                "navigation": [each for each in NAVIGATION if self.may_see(each[0])],
                "path": self.head.path,
                "token": self.console.sessions.token(self.head),
                "is_open": is_open,
                "request_id": self.request_id,
                "seen": self.console.watch.viewed(),
                **given,
            },
        )

    async def form(self) -> dict[str, str]:
        """The fields of a form of ours. Raises PageError for any other."""
        self.require_acting()
        return await self.submitted()

    def require_acting(self) -> None:
        """Raises PageError where this console only looks."""
        if not self.console.settings.may_act():
            raise PageError(403, ONLY_LOOKS)

    async def submitted(self) -> dict[str, str]:
        """As `form`, where nothing is done to the service."""
        headers = dict(self.head.headers)
        origin = headers.get(b"origin")
        if origin is not None and not is_of_host(origin, headers.get(b"host")):
            raise PageError(403, FOREIGN)
        body = await self._body()
        try:
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError:
            raise PageError(400, "This is no form that a page of the console has.") from None
        given = fields.pop(TOKEN, "")
        if not self.console.sessions.is_token(self.head, given):
            raise PageError(403, ANOTHER_PROCESS if self.console.sessions.is_of_another_process(given) else ELSEWHERE)
        return {name: value for name, value in fields.items() if value != ""}

    async def _body(self) -> bytes:
        """The form's bytes, which anybody may begin to send. Raises PageError when they do not come."""
        assert self.request is not None, "a form comes with a request"
        try:
            async with asyncio.timeout(FORM_TIMEOUT):
                body: bytes = await self.request.body()
                return body
        except TimeoutError:
            raise PageError(408, TOO_SLOW) from None


def fields_of(query: bytes) -> dict[str, str]:
    """The fields of a query; none of one with more than any page has."""
    try:
        return dict(parse_qsl(query.decode("utf-8", "replace"), max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}


def address(path: str, given: Mapping[str, Any]) -> str:
    """A path with a query; values that are None or empty are left out."""
    found = {name: value for name, value in given.items() if value not in (None, "")}
    return f"{path}?{urlencode(found)}" if found else path


def to(path: str) -> Response[bytes]:
    """After a form: go there."""
    return Response(b"", status_code=303, headers={"location": path, **HEADERS})
