"""The first policy of a process that is not open: a closed list of authenticators, of which one knows who asks.

To ask them costs one microsecond in a loop of nothing else, and four in a process that serves. So the principal of a
header is remembered for `HELD` seconds where the authenticator says that nothing else counts (`Settled`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Literal

import msgspec

from telemetry.health import Probe
from telemetry.metrics import ACCESS_REFUSED
from web.policies.decisions import ADMIT, Admit, Decision, NeedsIO, Refuse
from web.policies.principal import ANONYMOUS, Principal
from web.policies.request_head import RequestHead

REALM = b'Bearer realm="footfall"'
INVALID_TOKEN, INVALID_REQUEST = b"invalid_token", b"invalid_request"  # RFC 6750, 3.1

# Whoever shows no credentials. It has no scope and no tenant: only what is public is for it.
NOBODY = Principal("", ANONYMOUS, frozenset())
ADMIT_NOBODY = Admit(NOBODY)

# Why somebody is refused, for metrics and the audit log; never what was shown.
RefusalReason = Literal[
    "no_credentials", "unknown", "malformed", "expired", "revoked", "host", "origin", "scope", "not_ready"
]


class NotMine(Enum):
    """These credentials are of a kind that another authenticator knows, or there are none."""

    NOT_MINE = "not mine"


NOT_MINE = NotMine.NOT_MINE


class Presented(msgspec.Struct, frozen=True, gc=False):
    """The credentials of one request, found once for all authenticators."""

    token: bytes | None  # of `Authorization: Bearer`, or a public key in the query; None: there is neither
    query: bytes | None = None  # the query without that key


class Beacon(msgspec.Struct, frozen=True):
    """A fact: the key came in the query, as `navigator.sendBeacon` has to send it, which cannot set a header."""


BEACON = Beacon()


class Settled(msgspec.Struct, frozen=True, gc=False):
    """Whoever shows these credentials is this principal, whatever else is in the request."""

    principal: Principal
    seconds: float  # after which that ends by itself


# Principal: it is known who asks with this request. Refuse: it is known that nobody may ask with these credentials (see
# `refuse_credentials`). NeedsIO: `ask` is awaited once and gives Admit(principal) or Refuse.
Authenticated = Principal | Settled | Refuse | NotMine | NeedsIO
Authenticator = Callable[[RequestHead, Presented], Authenticated]

NOTHING_PRESENTED = Presented(None)
HELD = 0.25  # seconds for which a settled principal is remembered; a revoked key may be good for as much longer
MAX_HELD = 4_096  # headers `Authorization`


def unauthenticated(sentence: str, error: bytes = b"") -> Refuse:
    """401 with the challenge of RFC 6750. `error`: its code; none where no credentials were shown."""
    challenge = REALM + (b', error="%b"' % error if error else b"")
    return Refuse(401, sentence, ((b"www-authenticate", challenge),))


def refuse_credentials(reason: RefusalReason, refusal: Refuse) -> Refuse:
    """`refusal`, counted by its reason."""
    ACCESS_REFUSED.labels(reason=reason).inc()
    return refusal


UNKNOWN_KIND = unauthenticated("These credentials are of no kind that is accepted here.", INVALID_TOKEN)
KEY_IN_QUERY = unauthenticated(
    "Only one public key (ffw_) may be in a query; send any other in the header `Authorization`.", INVALID_REQUEST
)
MALFORMED = unauthenticated("The header `Authorization` must be `Bearer <key>`, once.", INVALID_REQUEST)


class Identity:
    """The policy: asks each authenticator in its order, until one knows the credentials."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        probes: Mapping[str, Probe] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`probes`: what the authenticators depend on, by name. `clock`: seconds that never go back."""
        self._authenticators = tuple(authenticators)
        self.probes = probes or {}
        self._clock = clock
        self._held: dict[bytes | None, tuple[Principal, float]] = {}  # by header: until when, by the clock

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`. Whoever shows nothing is `NOBODY`; whoever shows what nobody knows is refused."""
        shown: bytes | None = None
        for name, value in head.headers:
            if name == b"authorization":
                if shown is not None:
                    return refuse_credentials("malformed", MALFORMED)
                shown = value
        held = self._held.get(shown)
        if held is not None and self._clock() < held[1]:
            head.facts[Principal] = held[0]  # as `Admit` has it done, at half the price
            return ADMIT
        return self._asked(head, shown)

    def _asked(self, head: RequestHead, shown: bytes | None) -> Decision:
        presented = presented_in_query(head) if shown is None else presented_in_header(shown)
        if isinstance(presented, Refuse):
            return presented
        for authenticate in self._authenticators:
            answer = authenticate(head, presented)
            if isinstance(answer, NotMine):
                continue
            if isinstance(answer, Settled):
                self._hold(shown, presented, answer)
                return Admit(answer.principal, presented.query)
            return Admit(answer, presented.query) if isinstance(answer, Principal) else answer
        return ADMIT_NOBODY if presented.token is None else refuse_credentials("unknown", UNKNOWN_KIND)

    def _hold(self, shown: bytes | None, presented: Presented, settled: Settled) -> None:
        # What is in the query has to be taken out of it each time. One spelling of each key, the usual one, is held:
        # with others, such as a thousand spaces, one client would fill the table with headers of 32 KiB.
        if shown is None or presented.token is None or shown != b"Bearer " + presented.token:
            return
        if len(self._held) >= MAX_HELD:
            self._held.clear()
        self._held[shown] = settled.principal, self._clock() + min(settled.seconds, HELD)


def presented_in_header(shown: bytes) -> Presented | Refuse:
    """The credentials in one header. What cannot be read is refused."""
    kind, _, token = shown.partition(b" ")
    token = token.strip(b" ")
    if kind.lower() != b"bearer" or not token or b" " in token:
        return refuse_credentials("malformed", MALFORMED)
    return Presented(token)


def presented_in_query(head: RequestHead) -> Presented | Refuse:
    """A public key in the query. Addresses are logged on the way, so another key is refused there, whatever it is."""
    if b"key=ff" not in head.query:
        return NOTHING_PRESENTED
    parts = head.query.split(b"&")
    keys = [part for part in parts if part.startswith(b"key=ff")]
    if len(keys) != 1 or not keys[0].startswith(b"key=ffw_"):
        return refuse_credentials("malformed", KEY_IN_QUERY)
    head.facts[Beacon] = BEACON
    return Presented(keys[0][4:], b"&".join([part for part in parts if part is not keys[0]]))


def with_probes_of(identity: object, probes: Mapping[str, Probe]) -> dict[str, Probe]:
    """`probes`, and those of the identity policy of the process."""
    return {**probes, **(identity.probes if isinstance(identity, Identity) else {})}
