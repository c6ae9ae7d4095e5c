"""The policy before identity: what pages in browsers may ask for, by the headers that pages cannot forge.

A browser takes a page's request to any server its user can reach. `Host` tells a name that was pointed here (DNS
rebinding), `Origin` the page. Programs send what they like, so nothing here lets anybody in: it only keeps out.
"""

from collections.abc import Callable, Collection

from web.policies.decisions import ADMIT, Admit, Answer, Decision, Refuse
from web.policies.hosts import host_in, is_accepted
from web.policies.identity import refuse_credentials
from web.policies.origins import is_of_host
from web.policies.request_head import RequestHead

SAFE = ("GET", "HEAD", "OPTIONS")
VARY = ((b"vary", b"origin"),)
EXPOSED = (
    b"content-disposition, etag, footfall-cursor, footfall-position, footfall-reached, link, location, "
    b"preference-applied, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-request-id"
)
ALLOWED_HEADERS = (
    b"accept, authorization, content-type, idempotency-key, if-none-match, last-event-id, prefer, x-request-id"
)
PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
    (b"access-control-allow-headers", ALLOWED_HEADERS),
    (b"access-control-max-age", b"7200"),  # seconds
    *VARY,
)
FOREIGN_HOST = Refuse(
    421, "This server is not known by that name. List the name of the `Host` header in ALLOWED_HOSTS."
)
NO_HOST = Refuse(400, "The header `Host` is no host with a port or without.")
FOREIGN_ORIGIN = Refuse(
    403,
    "A page of this origin may not send this. List it in CORS_ORIGINS, or give it a public key. If it is a page of "
    "this server, a proxy has changed the header `Host`: it must pass on the browser's, with its port.",
    VARY,
)
MAX_KNOWN_HOSTS = 1_000


class Browsers:
    """The policy: refuses foreign hosts and what pages of foreign origins send; answers preflights (CORS)."""

    def __init__(
        self,
        allowed_hosts: Collection[str] | None,
        origins: Callable[[], Collection[bytes]],
        *,
        any_origin: bool = False,
    ) -> None:
        """The rules of one process.

        Args:
            allowed_hosts: See `is_accepted`; None: any host.
            origins: Of pages that may send requests and read answers.
            any_origin: Whether every page may.
        """
        self._allowed_hosts = allowed_hosts
        self._known_hosts: set[bytes] = set()
        self._origins = origins
        self._any_origin = any_origin

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        host = origin = site = None
        for name, value in head.headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value if origin is None else b"null"  # two are none that is listed
            elif name == b"sec-fetch-site":
                site = value
        if host is not None and host not in self._known_hosts:
            refusal = self._refusal_of(host)
            if refusal is not None:
                return refuse_credentials("host", refusal)
        if origin is not None:
            return self._of_a_page(head, origin, host)
        if site is not None and site not in (b"none", b"same-origin") and head.method not in SAFE:
            return refuse_credentials("origin", FOREIGN_ORIGIN)
        return ADMIT

    def _refusal_of(self, value: bytes) -> Refuse | None:
        host = host_in(value)
        if host is None:
            return NO_HOST
        if self._allowed_hosts is not None and not is_accepted(host, self._allowed_hosts):
            return FOREIGN_HOST
        if len(self._known_hosts) < MAX_KNOWN_HOSTS:
            self._known_hosts.add(value)
        return None

    def _of_a_page(self, head: RequestHead, origin: bytes, host: bytes | None) -> Decision:
        is_listed = origin in self._origins()
        if is_listed or self._any_origin:
            headers = allowing(origin, with_credentials=is_listed)
            if is_preflight(head):
                return Answer(204, (*headers, *PREFLIGHT))
            return Admit(headers=(*headers, (b"access-control-expose-headers", EXPOSED), *VARY))
        if is_of_host(origin, host) or (head.method in SAFE and not is_preflight(head)):
            return Admit(headers=VARY) if self._origins() else ADMIT
        return refuse_credentials("origin", FOREIGN_ORIGIN)


def allowing(origin: bytes, *, with_credentials: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that let a page of `origin` read an answer.

    `sendBeacon` always asks with credentials, of which there are none here: keys and tokens are shown by the page.
    """
    found = ((b"access-control-allow-origin", origin),)
    return (*found, (b"access-control-allow-credentials", b"true")) if with_credentials else found


def is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks what its page may send (Fetch standard, CORS-preflight request)."""
    return head.method == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in head.headers)
