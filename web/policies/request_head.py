"""The head of one request, as request policies see it. Nothing of its body is known yet."""

from typing import Any, TypeVar

import msgspec

from web.asgi import Headers, Scope

Fact = TypeVar("Fact")


class RequestHead(msgspec.Struct, eq=False):
    """One request before its body, and what the policies have learned of it."""

    method: str
    path: str  # decoded, as it is routed: one slash between its parts, none at the end
    raw_path: bytes  # as it was sent, without the query
    query: bytes  # without its question mark
    headers: Headers
    client: tuple[str, int] | None  # the peer of the connection: a proxy, if there is one
    scheme: str  # of the connection: "https" with TLS; what a proxy forwards is in `headers`, and anybody can write it
    facts: dict[type, Any] = {}  # what the policies learned: a principal, a tenant; each by its type

    def fact(self, kind: type[Fact]) -> Fact:
        """What a policy learned. Raises LookupError where no policy did: who needs a fact never goes on without it."""
        fact: Fact = self.facts[kind]
        return fact


def head_of(scope: Scope) -> RequestHead:
    """The head of a request on ASGI."""
    return RequestHead(
        scope["method"],
        canonical(scope["path"]),
        scope.get("raw_path", b""),
        scope.get("query_string", b""),
        scope["headers"],
        scope.get("client"),
        scope.get("scheme", "http"),
    )


def canonical(path: str) -> str:
    """The one spelling of a path that routers take for the same: doubled slashes, and those at the end, are dropped."""
    if "//" not in path and not path.endswith("/"):
        return path
    return "/" + "/".join(filter(None, path.split("/")))
