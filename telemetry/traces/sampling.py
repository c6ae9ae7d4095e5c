"""Whether a trace is recorded: decided once, at its head, by the rules that OTEL_TRACES_SAMPLER names.

https://opentelemetry.io/docs/specs/otel/trace/sdk/#built-in-samplers. The common answer is "no", for a request without
a `traceparent`: it costs one random number, and no id.
"""

import time
from collections.abc import Callable
from random import getrandbits

from telemetry.traces.context import Context, new_span_id

ALL = 1 << 64  # the ratio is taken of the trace id's last 64 bits


class Sampler:
    """Decides for each request; only the event loop's thread asks."""

    def __init__(
        self,
        ratio: float,
        *,
        parent_based: bool,
        from_clients: int,
        clock: Callable[[], float] = time.monotonic,
        random_bits: Callable[[int], int] = getrandbits,
    ) -> None:
        """A sampler.

        Args:
            ratio: Share of the traces that begin here, 0 to 1.
            parent_based: Whether who comes with a trace has decided already.
            from_clients: Traces a second at most that are recorded because a client says so; 0: none.
            clock: Seconds.
            random_bits: As `random.getrandbits`.
        """
        self._bound = round(ratio * ALL)
        self._parent_based = parent_based
        self._from_clients = from_clients
        self._clock = clock
        self._random_bits = random_bits
        self._second, self._taken = 0, 0

    def begin(self, parent: Context | None) -> Context | None:
        """The span of a request in the trace of `parent`, or in its own; None: a trace that nobody began or records."""
        if parent is not None:
            sampled = self._follows(parent) if self._parent_based else self._falls(parent.trace_id)
            return Context(parent.trace_id, new_span_id(), sampled)
        low = self._random_bits(64)
        if low >= self._bound:
            return None
        return Context((self._random_bits(64) << 64 | low) or 1, new_span_id(), sampled=True)

    def _falls(self, trace_id: int) -> bool:
        return trace_id % ALL < self._bound

    def _follows(self, parent: Context) -> bool:
        """Clients decide for so many requests a second, then the ratio: nobody makes this process record everything."""
        if not parent.sampled:
            return False
        second = int(self._clock())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= self._from_clients or self._falls(parent.trace_id)
