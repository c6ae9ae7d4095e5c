"""The head of one request, as request policies see it. Nothing of its body is known yet."""

import re
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec

from web.asgi import Headers, Scope
from web.transport.peer import PEER_KEY

Fact = TypeVar("Fact")

ANY_PATH = b"*"  # the target of `OPTIONS *`
_is_canonical = re.compile(rb"(?:/[A-Za-z0-9._~-]+)+|/").fullmatch
_broken_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search


class RequestHead(msgspec.Struct, eq=False, gc=False):
    """One request before its body, and what the policies have learned of it."""

    method: str
    path: str  # the very path that is routed; see `canonical`
    raw_path: bytes  # as it was sent, without the query
    query: bytes  # without its question mark
    headers: Headers
    client: tuple[str, int] | None  # the peer of the connection, or whom trusted proxies name as theirs
    scheme: str  # of the connection: "https" with TLS; what a proxy forwards is in `headers`, and anybody can write it
    answer_headers: tuple[tuple[bytes, bytes], ...] = ()  # what policies add to the answer, whatever it will be
    facts: dict[type, Any] = {}  # what the policies learned: a principal, a tenant; each by its type

    def fact(self, kind: type[Fact]) -> Fact:
        """What a policy learned. Raises LookupError where no policy did: who needs a fact never goes on without it."""
        fact: Fact = self.facts[kind]
        return fact


def head_of(scope: Scope) -> RequestHead:
    """The head of a request on ASGI."""
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    peer = scope.get(PEER_KEY)
    return RequestHead(
        scope["method"],
        canonical(raw_path),
        raw_path,
        scope.get("query_string", b""),
        scope["headers"],
        scope.get("client"),
        scope.get("scheme", "http"),
        facts={} if peer is None else {type(peer): peer},
    )


def canonical(raw_path: bytes) -> str:
    """The one spelling of a path. Policies decide by it, and every router routes by it, so none sees another path.

    One slash between segments and none at the end. Each segment is percent-encoded where it has to be, and nowhere
    else: a `%2F` belongs to its segment, and ends none.
    """
    if _is_canonical(raw_path):
        return raw_path.decode()
    if raw_path == ANY_PATH:
        return "*"
    return "/" + "/".join([quote(unquote_to_bytes(part), safe="") for part in raw_path.split(b"/") if part])


def is_soundly_escaped(head: RequestHead) -> bool:
    """Whether each percent sign of the target begins a percent-encoding (RFC 3986, 2.1); `/users/%zz` names nobody.

    Decoders let such a sign stand for itself, so a mistake of a client would be somebody else's name. The query of a
    POST is not looked at: a command ignores it.
    """
    if b"%" not in head.raw_path and b"%" not in head.query:
        return True
    return not (_broken_escape(head.raw_path) or (head.method != "POST" and _broken_escape(head.query)))
