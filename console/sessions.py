"""Who is signed in: a browser shows a cookie, and this puts the key or token behind it into the request's head.

The policy of identity then sees what a program would have sent, at every request: a key that is revoked, or a token
that has expired, opens nothing more. The credentials stay in this process's memory; the cookie is only a random name.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie

import msgspec

from web.policies.decisions import ADMIT, Admit, Answer, Decision, NeedsIO, Refuse, RequestPolicy
from web.policies.request_head import RequestHead

COOKIE = "footfall-console"
LASTS = 12 * 3600.0  # seconds after the last request
MOST = 1_000  # sessions; the one unused for longest goes
SIGN_IN = "/console/sign-in"
WITHOUT = (SIGN_IN, "/console/assets")  # pages that nobody has to be signed in for


class _Session(msgspec.Struct):
    credentials: bytes
    used: float


class Sessions:
    """The sessions of one process, and the policy before identity that knows them."""

    def __init__(self, identity: RequestPolicy, *, is_open: bool) -> None:
        """`identity`: knows whose credentials are good. `is_open`: nobody has to sign in."""
        self._identity, self.is_open = identity, is_open
        self._known: OrderedDict[str, _Session] = OrderedDict()
        self._secret = secrets.token_bytes(32)

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        if any(name == b"authorization" for name, _ in head.headers):
            return ADMIT
        is_console = head.path == "/console" or head.path.startswith("/console/")
        session = self._find(cookie_of(head))
        if session is not None and (is_console or head.method in ("GET", "HEAD")):
            shown = with_credentials(head, session.credentials)
            if not isinstance(self._identity(shown), Refuse):
                head.headers = shown.headers
                return ADMIT
            self.close(cookie_of(head))
        if not is_console or head.method != "GET" or head.path.startswith(WITHOUT):
            return ADMIT
        return Answer(303, ((b"location", SIGN_IN.encode()),))

    async def admits(self, head: RequestHead, credentials: bytes) -> bool:
        """Whether these credentials are somebody's."""
        decision = self._identity(with_credentials(head, credentials))
        if isinstance(decision, NeedsIO):
            decision = await decision.ask()
        return isinstance(decision, Admit)

    def open(self, credentials: str) -> str:
        """Begins a session; returns the cookie's value."""
        name = secrets.token_urlsafe(32)
        self._known[name] = _Session(credentials.encode(), time.monotonic())
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return name

    def close(self, name: str) -> None:
        """Ends a session."""
        self._known.pop(name, None)

    def token(self, head: RequestHead) -> str:
        """What a form must bring back: it is bound to the session, and to this process."""
        return hmac.new(self._secret, cookie_of(head).encode(), hashlib.sha256).hexdigest()

    def is_token(self, head: RequestHead, given: str) -> bool:
        """Whether a form brought back what this session was given."""
        return hmac.compare_digest(given.encode(), self.token(head).encode())

    def _find(self, name: str) -> _Session | None:
        found = self._known.get(name)
        if found is None or time.monotonic() - found.used > LASTS:
            self.close(name)
            return None
        found.used = time.monotonic()
        self._known.move_to_end(name)
        return found


def with_credentials(head: RequestHead, credentials: bytes) -> RequestHead:
    """The head as a program would have sent it."""
    headers = [*head.headers, (b"authorization", b"Bearer " + credentials)]
    return msgspec.structs.replace(head, headers=headers, facts=dict(head.facts))


def cookie_of(head: RequestHead) -> str:
    """The value of our cookie; empty if there is none."""
    for name, value in head.headers:
        if name == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if found is not None:
                return found.value
    return ""
