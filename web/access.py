"""Every path of every process, and the one scope that it needs (docs/decisions/0036). What is not here is closed.

A test holds this list against the applications: a route that is added without a line here fails it. A template is a
path in which `{name}` is one segment; an exact path wins over templates, and the first template that fits over others.
"""

import re
from collections.abc import Mapping
from enum import Enum

from web.policies.principal import AccessScope


class Public(Enum):
    """What anybody may ask for, with credentials or without."""

    PUBLIC = "public"


PUBLIC = Public.PUBLIC
OPERATOR = AccessScope.OPERATOR
READ, WRITE, METRICS = AccessScope.EVENTS_READ, AccessScope.EVENTS_WRITE, AccessScope.METRICS
PRIVACY = AccessScope.PRIVACY
Needed = AccessScope | Public

ACCESS: Mapping[str, Needed] = {
    # The server as a whole (`OPTIONS *`), and the root, where nothing is.
    "*": PUBLIC,
    "/": PUBLIC,
    # Probes. Only who may read metrics is told more than whether the process is ready.
    "/health": PUBLIC,
    "/health/live": PUBLIC,
    "/health/ready": PUBLIC,
    "/metrics": METRICS,
    # Commands.
    "/events/generate": WRITE,
    "/events/generate/batch": WRITE,
    # Erasure. `/users/activity` and the like are paths of queries: their exact lines win.
    "/users": PRIVACY,
    "/users/{id}": PRIVACY,
    # Queries.
    "/events/processed": READ,
    "/events/feed": READ,
    "/events/stream": READ,
    "/events/{eventId}": READ,
    "/events/{eventId}/status": READ,
    "/users/activity": READ,
    "/users/sessions": READ,
    "/users/{id}/events": READ,
    "/users/{id}/activity": READ,
    "/users/{id}/sessions": READ,
    "/users//{what}": READ,  # an empty user id: refused in the words of the routes of users
    "/products/top": READ,
    "/activity/hourly": READ,
    # The console. To look takes `events:read`; what changes something, or opens a letter, takes `operator`.
    "/console": READ,
    "/console/now": READ,
    "/console/history.json": READ,
    "/console/lags.json": READ,
    "/console/dead-letters": READ,
    "/console/dead-letters/one": OPERATOR,
    "/console/dead-letters/predict": OPERATOR,
    "/console/dead-letters/redrive": OPERATOR,
    "/console/dead-letters/discard": OPERATOR,
    "/console/dead-letters/done": OPERATOR,
    "/console/rebuilds": READ,
    "/console/projectors": READ,
    "/console/generations/ask": OPERATOR,
    "/console/generations/do": OPERATOR,
    "/console/find": READ,
    "/console/live": READ,
    "/console/activity": READ,
    "/console/retention": READ,
    "/console/settings": OPERATOR,
    "/console/sessions": READ,  # one's own; operators see and end all
    "/console/sessions/end": READ,
    "/console/jobs": OPERATOR,
    "/console/sign-in": PUBLIC,
    "/console/sign-out": PUBLIC,
    "/console/assets/{name}": PUBLIC,
    # Documents: what the service can do is no secret, and writers of clients need them before they have a key.
    "/docs": PUBLIC,
    "/docs/{path}": PUBLIC,
    "/docs/assets/{name}": PUBLIC,
    "/openapi/command-side.json": PUBLIC,
    "/openapi/query-side.json": PUBLIC,
    "/asyncapi/user-activity-events.json": PUBLIC,
    "/schema/events/event-types.json": PUBLIC,
    "/schema/events/activity-command-1.json": PUBLIC,
    "/schema/events/user-erasure-1.json": PUBLIC,
    "/schema/events/user-event-1.json": PUBLIC,
    "/schema/events/user-event-2.json": PUBLIC,
    "/schema/events/user-erasure-3.json": PUBLIC,
    "/schema/events/user-event-3.json": PUBLIC,
    "/schema/events/user-event-1-open.json": PUBLIC,
    "/schema/events/user-event-2-open.json": PUBLIC,
}

_parameter = re.compile(r"\{\w+\}").sub
_templates = [
    (re.compile(_parameter("[^/]+", path.replace("//", "/"))).fullmatch, path) for path in ACCESS if "{" in path
]
UNKNOWN_PATH = "(no path of this service)"


def needed_for(path: str) -> Needed | None:
    """What a canonical path (`RequestHead.path`) needs; None: nobody declared it, so nobody gets in."""
    return ACCESS.get(path) or ACCESS.get(template_of(path))


def template_of(path: str) -> str:
    """The path as logs name it: its template, because what stands in the place of a parameter may name a person."""
    return path if path in ACCESS else next((template for fits, template in _templates if fits(path)), UNKNOWN_PATH)
