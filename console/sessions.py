"""Who is signed in: a browser shows a cookie, and this puts the key or token behind it into the request's head.

The policy of identity then sees what a program would have sent, at every request: a key that is revoked, or a token
that has expired, opens nothing more. The credentials stay in this process's memory; the cookie is only a random name.
A stream that a page of the session follows lasts no longer than the session does.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict

import msgspec

from web.policies.decisions import ADMIT, Admit, Answer, Decision, NeedsIO, Refuse, RequestPolicy
from web.policies.identity import unauthenticated
from web.policies.principal import Principal
from web.policies.request_head import RequestHead

COOKIE = "footfall-console"
SECURE_COOKIE = f"__Host-{COOKIE}"  # where the browser speaks TLS: nobody on another host or in plain can set it
LASTS = 12 * 3600.0  # seconds after the last request
LONGEST = 24 * 3600.0  # seconds after the sign-in, whatever is asked
MOST = 1_000  # sessions; the one unused for longest goes
MOST_OF_ONE = 20  # sessions of one key or token
MARK = 16  # hexadecimal digits of a form's token that name the process; the other 48 are 192 bits
SIGN_IN = "/console/sign-in"
SIGN_OUT = "/console/sign-out"
# What says how the service is, and nothing of its users: an operator may look at it while nobody can check keys.
LOOKING_ON = frozenset(
    {
        *("/console", "/console/now", "/console/history.json", "/console/lags.json"),
        *("/console/projectors", "/console/rebuilds", SIGN_IN),
    }
)
WITHOUT = (SIGN_IN, "/console/assets")  # pages that nobody has to be signed in for
FORM = b"application/x-www-form-urlencoded"
LED_TO_THE_FORM = Answer(303, ((b"location", SIGN_IN.encode()),))
# htmx would show the form within the page that is open; so it takes the whole page there.
PAGE_LED_TO_THE_FORM = Answer(204, ((b"hx-redirect", SIGN_IN.encode()),))
ENDED = unauthenticated("The session has ended.")


class SessionName(msgspec.Struct, frozen=True):
    """A fact: the request came with this session's cookie."""

    name: str


class Known(msgspec.Struct, frozen=True):
    """A session as its page shows it. `name`: of the session there, which opens nothing; times: seconds ago."""

    name: str
    subject: str
    address: str
    began: float
    used: float
    ends_in: float
    is_this: bool


class _Session(msgspec.Struct):
    credentials: bytes
    cookie: str  # the only cookie that may show it
    began: float
    used: float
    subject: str
    address: str  # of the browser, as it was at the sign-in
    shown_as: str


class Sessions:
    """The sessions of one process, and the policy before identity that knows them."""

    def __init__(self, identity: RequestPolicy, *, is_open: bool) -> None:
        """`identity`: knows whose credentials are good. `is_open`: nobody has to sign in."""
        self._identity, self.is_open = identity, is_open
        self._known: OrderedDict[str, _Session] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._mark = secrets.token_hex(MARK // 2)

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        if any(name == b"authorization" for name, _ in head.headers) or head.path.startswith(WITHOUT):
            return ADMIT
        is_console = head.path == "/console" or head.path.startswith("/console/")
        session = self._find(head)
        if session is not None and (is_console or head.method in ("GET", "HEAD")):
            shown = with_credentials(head, session.credentials)
            decision, signs_out = self._identity(shown), head.path == SIGN_OUT
            if not is_final(decision):
                head.facts[SessionName] = SessionName(cookie_of(head))
                if not (signs_out and isinstance(decision, Refuse)):  # whoever leaves need not be known
                    head.headers = shown.headers
                return ADMIT
            self.close(cookie_of(head))
        if not is_console or (head.method, head.path) == ("POST", SIGN_OUT):
            return ADMIT
        return led_to_the_form(head)

    def lasting(self, head: RequestHead) -> Decision:
        """The policy that what lasts, such as a stream, asks again: whoever began it in a session must be in it still.

        Where nobody has to sign in, and for a program with a key, it is the policy of identity.
        """
        named = head.facts.get(SessionName)
        if named is not None and self._current(named.name) is None:
            return ENDED
        return self._identity(head)

    async def owner_of(self, head: RequestHead, credentials: bytes) -> Principal | Refuse:
        """Whose these credentials are, or why they open nothing."""
        shown = with_credentials(head, credentials)
        decision = self._identity(shown)
        if isinstance(decision, NeedsIO):
            decision = await decision.ask()
        if isinstance(decision, Refuse):
            return decision
        fact = decision.fact if isinstance(decision, Admit) else None
        found: Principal = fact if isinstance(fact, Principal) else shown.fact(Principal)
        return found

    def has_ended(self, head: RequestHead) -> bool:
        """Whether the browser shows the cookie of a session that is none here, or no more."""
        name = cookie_of(head)
        return name != "" and name not in self._known

    def open(self, credentials: str, *, cookie: str = COOKIE, subject: str = "", address: str = "") -> str:
        """Begins a session of a subject, which only this cookie shows; returns the cookie's value."""
        name, shown, now = secrets.token_urlsafe(32), credentials.encode(), time.monotonic()
        of_one = [known for known, session in self._known.items() if session.credentials == shown]
        for too_many in of_one[: max(0, len(of_one) - MOST_OF_ONE + 1)]:
            self.close(too_many)
        self._known[name] = _Session(shown, cookie, now, now, subject, address, secrets.token_hex(8))
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return name

    def close(self, name: str) -> None:
        """Ends a session."""
        self._known.pop(name, None)

    def known(self, head: RequestHead, subject: str | None) -> list[Known]:
        """The sessions of a subject, or of everybody (None); the one used last comes first."""
        mine, now, found = cookie_of(head), time.monotonic(), []
        for name in reversed(list(self._known)):
            session = self._current(name)
            if session is not None and subject in (None, session.subject):
                began, used = now - session.began, now - session.used
                left = min(LASTS - used, LONGEST - began)
                told = (session.shown_as, session.subject, session.address, began, used, left, name == mine)
                found.append(Known(*told))
        return found

    def end(self, shown_as: str, subject: str | None) -> str | None:
        """Ends a session by the name that its page shows, if it is of this subject; None: whose it is does not matter.

        Returns whose it was; None: there is none.
        """
        for name, session in self._known.items():
            if session.shown_as == shown_as and subject in (None, session.subject):
                self.close(name)
                return session.subject
        return None

    def token(self, head: RequestHead) -> str:
        """What a form must bring back: it is bound to the session, and to this process, whose mark it begins with."""
        bound = hmac.new(self._secret, cookie_of(head).encode(), hashlib.sha256).hexdigest()
        return self._mark + bound[MARK:]

    def is_token(self, head: RequestHead, given: str) -> bool:
        """Whether a form brought back what this session was given."""
        return hmac.compare_digest(given.encode(), self.token(head).encode())

    def is_of_another_process(self, given: str) -> bool:
        """Whether a token was given by another process: one beside this, or the one before a restart."""
        return given != "" and not given.startswith(self._mark)

    def _find(self, head: RequestHead) -> _Session | None:
        cookie, name = _shown(head)
        found = self._current(name)
        if found is None or found.cookie != cookie:
            return None
        found.used = time.monotonic()
        self._known.move_to_end(name)
        return found

    def _current(self, name: str) -> _Session | None:
        found, now = self._known.get(name), time.monotonic()
        if found is not None and (now - found.used > LASTS or now - found.began > LONGEST):
            self.close(name)
            return None
        return found


def is_final(decision: Decision) -> bool:
    """Whether the credentials are refused; while nobody can say (503), the session waits for who can."""
    return isinstance(decision, Refuse) and decision.status < 500


def led_to_the_form(head: RequestHead) -> Decision:
    """What whoever is not signed in gets: a page the form to sign in, a program the refusal that identity has."""
    names = {name: value for name, value in head.headers if name in (b"hx-request", b"content-type")}
    if b"hx-request" in names:
        return PAGE_LED_TO_THE_FORM
    is_page = head.method == "GET" or names.get(b"content-type", b"").startswith(FORM)
    return LED_TO_THE_FORM if is_page else ADMIT


def with_credentials(head: RequestHead, credentials: bytes) -> RequestHead:
    """The head as a program with these credentials would have sent it."""
    others = [each for each in head.headers if each[0] != b"authorization"]
    headers = [*others, (b"authorization", b"Bearer " + credentials)]
    return msgspec.structs.replace(head, headers=headers, facts=dict(head.facts))


def cookie_of(head: RequestHead) -> str:
    """The value of our cookie; empty if there is none."""
    return _shown(head)[1]


def _shown(head: RequestHead) -> tuple[str, str]:
    """Name and value of our cookie. That of TLS comes first: a neighbour may have set the other one."""
    found: dict[str, str] = {}
    for header, value in head.headers:
        if header == b"cookie":
            for pair in value.decode("latin-1").split(";"):  # neighbours' may be anything, such as JSON (RFC 6265, 5.4)
                name, _, content = pair.strip().partition("=")
                if name in (SECURE_COOKIE, COOKIE):
                    found[name] = content
    cookie = SECURE_COOKIE if SECURE_COOKIE in found else COOKIE
    return cookie, found.get(cookie, "")
