"""How much one tenant may store in a day: further commands are refused before their body is read.

Its public keys, which any visitor can copy, may use a part of it together, so that the rest stays for its servers.

What is counted is what Kafka has acknowledged to this process: commands that are in flight when a quota is used up are
still stored, and a process that starts anew begins to count anew.
"""

from collections.abc import Mapping

from command_side.policies.command_heads import CommandHead
from command_side.publishing.counted_log import DAY, DayOfTenants, Stored
from telemetry.metrics import COMMANDS_REJECTED, REQUESTS_LIMITED
from web.policies.decisions import ADMIT, Decision, Refuse
from web.policies.limits.rates import part_of
from web.policies.principal import Principal
from web.policies.request_head import RequestHead


class DailyQuota:
    """The policy."""

    def __init__(self, day: DayOfTenants, *, events: int, size: int, public_percent: int) -> None:
        """The quota of every tenant.

        Args:
            day: What each has stored.
            events: Of a tenant's day; 0: as many as it likes.
            size: The same in bytes of their values.
            public_percent: Of both, what its public keys may use.
        """
        self._day = day
        self._all = {"events": events, "bytes": size}
        self._public = {what: part_of(most, public_percent) for what, most in self._all.items()}

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`. Needs the fact `Principal`."""
        if CommandHead not in head.facts:
            return ADMIT
        principal = head.fact(Principal)
        if principal.is_public():
            public = self._used_up(self._day.of(principal.tenant_id, public=True), self._public)
            if public:
                return self._refused("The public keys of the tenant have stored their", public, self._public[public])
        used_up = self._used_up(self._day.of(principal.tenant_id), self._all)
        return self._refused("The tenant has stored its", used_up, self._all[used_up]) if used_up else ADMIT

    def _used_up(self, stored: Stored, most: Mapping[str, int]) -> str:
        """What there is no more of; empty: there is."""
        if 0 < most["events"] <= stored.events:
            return "events"
        return "bytes" if 0 < most["bytes"] <= stored.bytes else ""

    def _refused(self, who: str, what: str, most: int) -> Refuse:
        COMMANDS_REJECTED.labels(status=429).inc()
        REQUESTS_LIMITED.labels(by="quota").inc()
        left = self._day.left()
        return Refuse(
            429,
            f"{who} {most} {what} of this day (UTC). Nothing was recorded.",
            (
                (b"retry-after", b"%d" % left),
                (b"ratelimit-policy", b'"day-%b";q=%d;w=%d' % (what.encode(), most, DAY)),
                (b"ratelimit", b'"day-%b";r=0;t=%d' % (what.encode(), left)),
            ),
        )
