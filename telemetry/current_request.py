"""The request that is being answered, so that every log line about it names it."""

from contextvars import ContextVar
from typing import Protocol

import msgspec


class NamedTrace(Protocol):
    """A trace, as logs and tools write its id."""

    @property
    def trace_id(self) -> str: ...


class CurrentRequest(Protocol):
    """What log lines name a request by. `trace`: None if it is part of no trace."""

    @property
    def request_id(self) -> str: ...
    @property
    def trace(self) -> NamedTrace | None: ...


class NamedRequest(msgspec.Struct, frozen=True):
    """A `CurrentRequest` that is nothing else."""

    request_id: str
    trace: NamedTrace | None


class Offered:
    """The request that a fast handler is being offered, until it returns: no context variable is as cheap."""

    request: CurrentRequest | None = None


OFFERED = Offered()
CURRENT_REQUEST: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)


def current_request() -> CurrentRequest | None:
    """The request that the running code answers; None: it answers none."""
    return OFFERED.request or CURRENT_REQUEST.get()
