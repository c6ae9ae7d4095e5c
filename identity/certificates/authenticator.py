"""The authenticator of certificates: one of the list in `web.policies.identity`, and the last one asked."""

import time
from collections.abc import Callable

from identity.certificates.clients import Clients
from web.policies.decisions import Refuse
from web.policies.identity import NOT_MINE, Authenticated, Presented, refuse_credentials, unauthenticated
from web.policies.request_head import RequestHead
from web.transport.peer import PeerCertificate

UNKNOWN = unauthenticated("The client certificate is not listed here.")
AMBIGUOUS = unauthenticated("The client certificate has more than one name that is listed here.")
EXPIRED = unauthenticated("The client certificate has expired.")
NOT_READY = Refuse(
    503, "This process cannot check certificates now. Nothing was done; try again shortly.", ((b"retry-after", b"2"),)
)
OF_BROWSERS = frozenset({b"origin", b"sec-fetch-site"})


class CertificateAuthenticator:
    """Knows whose a verified certificate is. Whoever also shows a key or a token is known by that."""

    def __init__(self, clients: Callable[[], Clients | None], clock: Callable[[], float] = time.time) -> None:
        """`clients`: None while they may not be relied on. `clock`: Unix time, seconds."""
        self._clients = clients
        self._clock = clock

    def __call__(self, head: RequestHead, presented: Presented) -> Authenticated:
        """See `Authenticator`.

        A browser shows the certificate of its user for any page that asks, so what a page sends has none.
        """
        certificate: PeerCertificate | None = head.facts.get(PeerCertificate)
        if certificate is None or presented.token is not None or is_of_a_browser(head):
            return NOT_MINE
        if certificate.ends_at <= self._clock():  # the connection may be older
            return refuse_credentials("expired", EXPIRED)
        clients = self._clients()
        if clients is None:
            return refuse_credentials("not_ready", NOT_READY)
        found = [clients[name] for name in {*certificate.names, certificate.subject} if name in clients]
        if len(found) != 1:
            return refuse_credentials("unknown", AMBIGUOUS if found else UNKNOWN)
        return found[0]


def is_of_a_browser(head: RequestHead) -> bool:
    """Whether a browser sent it, by headers that its pages cannot leave out."""
    return any(name in OF_BROWSERS for name, _ in head.headers)
