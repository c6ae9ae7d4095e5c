"""The circuit breaker in front of Kafka: closed, open, half-open (purgatory's states, M. Nygard's pattern).

The unit of failure is Kafka's silence within a produce round, not a request: thousands of requests share a round. While
the circuit is open no client waits for Kafka; what asks whether Kafka is back is a probe, never a client's request.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.messages.base import Event
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import OpenedState

from telemetry.logs import get_logger
from telemetry.metrics import CIRCUIT_STATE

STATES = ("closed", "half-open", "open")
_NAMES = {"closed": "closed", "half-opened": "half-open", "opened": "open"}  # purgatory's, and ours


class UnansweredError(Exception):
    """Kafka left a produce round or a probe without an answer."""


class Circuit:
    """Opens after `failures` in a row; a probe decides, `retry` seconds after it opened, whether it closes."""

    def __init__(self, name: str, *, failures: int, retry: float) -> None:
        self._name = name
        self._breakers = AsyncCircuitBreakerFactory(default_threshold=failures, default_ttl=retry)
        self._breakers.add_listener(self._changed)
        self.suspicious = False  # failures since the last success
        self.state = "closed"
        self._show()

    @property
    def closed(self) -> bool:
        """Whether what it guards may be asked."""
        return self.state == "closed"

    async def failed(self) -> None:
        """Counts one failure."""
        self.suspicious = True
        with suppress(UnansweredError, OpenedState):
            async with await self._breakers.get_breaker(self._name):
                raise UnansweredError

    async def succeeded(self) -> None:
        """Forgets the failures that did not open it."""
        if self.suspicious and self.closed:
            self.suspicious = False
            async with await self._breakers.get_breaker(self._name):
                pass

    async def attempt(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Closes, or stays open: as the probe ends. Does nothing before its time has come."""
        with suppress(UnansweredError, OpenedState):
            async with await self._breakers.get_breaker(self._name):
                await probe()
                self.suspicious = False

    def _changed(self, _name: str, kind: str, event: Event) -> None:
        if kind == "state_changed" and isinstance(event, ContextChanged):
            self.state = _NAMES[event.state]
            self._show()
            get_logger("command_side").warning("circuit_changed", circuit=self._name, state=self.state)

    def _show(self) -> None:
        for state in STATES:
            CIRCUIT_STATE.labels(state=state).set(state == self.state)
