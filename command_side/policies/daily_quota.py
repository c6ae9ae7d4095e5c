"""How much one tenant may store in a day: further commands are refused before their body is read.

What is counted is what Kafka has acknowledged to this process: commands that are in flight when a quota is used up are
still stored, and a process that starts anew begins to count anew.
"""

from command_side.policies.command_heads import CommandHead
from command_side.publishing.counted_log import DAY, DayOfTenants
from telemetry.metrics import COMMANDS_REJECTED, REQUESTS_LIMITED
from web.policies.decisions import ADMIT, Decision, Refuse
from web.policies.principal import Principal
from web.policies.request_head import RequestHead


class DailyQuota:
    """The policy."""

    def __init__(self, day: DayOfTenants, *, events: int, size: int) -> None:
        """`events`, `size` (bytes of their values): of a tenant's day; 0: as many as it likes."""
        self._day = day
        self._events, self._bytes = events, size

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`. Needs the fact `Principal`."""
        if CommandHead not in head.facts:
            return ADMIT
        stored = self._day.of(head.fact(Principal).tenant_id)
        if 0 < self._events <= stored.events:
            return self._refused("events", self._events)
        if 0 < self._bytes <= stored.bytes:
            return self._refused("bytes", self._bytes)
        return ADMIT

    def _refused(self, what: str, most: int) -> Refuse:
        COMMANDS_REJECTED.labels(status=429).inc()
        REQUESTS_LIMITED.labels(by="quota").inc()
        left = self._day.left()
        return Refuse(
            429,
            f"The tenant has stored its {most} {what} of this day (UTC). Nothing was recorded.",
            (
                (b"retry-after", b"%d" % left),
                (b"ratelimit-policy", b'"day-%b";q=%d;w=%d' % (what.encode(), most, DAY)),
                (b"ratelimit", b'"day-%b";r=0;t=%d' % (what.encode(), left)),
            ),
        )
