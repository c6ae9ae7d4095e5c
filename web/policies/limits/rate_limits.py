"""The policy of rates: how much one address, one principal and one tenant may ask for."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv6Address
from math import ceil

from telemetry.metrics import REQUESTS_LIMITED
from web.policies.decisions import ADMIT, Admit, Decision, Refuse
from web.policies.limits.cost import SECOND, cost_of, is_paid_by_time
from web.policies.limits.rates import Bucket, Buckets, Rate, Sharing
from web.policies.principal import ANONYMOUS, Principal
from web.policies.request_head import RequestHead

# Whose rate it is; None: it does not count for this request.
KeyOf = Callable[[RequestHead], str | None]
Used = list[tuple[Buckets, Bucket, float, float]]  # when it is full again, and the seconds of this request

LIMITED = "Too many requests: the limit of this {}. Nothing was done; try again later."


class RateLimits:
    """The policy. A request that is refused uses nothing."""

    def __init__(
        self,
        rates: Sequence[tuple[Rate, KeyOf]],
        clock: Callable[[], float] = time.monotonic,
        shared: Sharing | None = None,
    ) -> None:
        """`clock`: seconds that never go back. `shared`: if other processes count for the same rates."""
        self._shared = shared
        self._kinds = [(Buckets(rate), key_of) for rate, key_of in rates]
        self._clock = clock
        self._policies = (b"ratelimit-policy", b", ".join(buckets.policy for buckets, _ in self._kinds))

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`. Needs the facts that its keys are read from."""
        now, cost = self._clock(), cost_of(head)
        if not cost:
            return ADMIT
        used = self._would_use(head, cost, now)
        if not isinstance(used, list):
            return used
        is_low = False
        for buckets, bucket, full_at, _ in used:
            bucket.full_at = full_at
            is_low = is_low or full_at - now > buckets.window / 2
        if self._shared is not None:
            note_all(self._shared, used)
        return self._admitted(head, used, now, is_low) if is_low or head.method != "POST" else ADMIT

    def _would_use(self, head: RequestHead, cost: int, now: float) -> Used | Refuse:
        used: Used = []
        for buckets, key_of in self._kinds:
            key = key_of(head)
            if key is None:
                continue
            bucket, step, window = buckets.of(key), cost * buckets.interval, buckets.window
            ahead = min(step, window)
            if bucket.full_at > now:
                ahead += bucket.full_at - now
            elif self._shared is not None:
                ahead = min(ahead + self._shared.unknown(window), window)
            if ahead > buckets.most:
                return self._refused(buckets, ahead - window)
            used.append((buckets, bucket, now + ahead, step))
        return used

    def _admitted(self, head: RequestHead, used: Used, now: float, is_low: bool) -> Decision:
        """Headers only once half is used: before that, they would cost more than they tell."""
        headers = (self._policies, (b"ratelimit", _limits(used, now))) if is_low else ()
        release = partial(self._pay_time, used, now) if is_paid_by_time(head) else None
        return Admit(release=release, headers=headers)

    def _pay_time(self, used: Used, began: float, _head: RequestHead) -> None:
        """It is done already, so a client may come to owe more than it has: then it waits longer."""
        now = self._clock()
        for buckets, bucket, _, _ in used:
            seconds = (now - began) * SECOND * buckets.interval
            bucket.full_at = max(bucket.full_at, now) + seconds
            if self._shared is not None:
                self._shared.note(buckets, bucket, seconds)

    def _refused(self, buckets: Buckets, wait: float) -> Refuse:
        REQUESTS_LIMITED.labels(by=buckets.name).inc()
        seconds = max(1, ceil(wait))
        return Refuse(
            429,
            LIMITED.format(buckets.name),
            (
                (b"retry-after", b"%d" % seconds),
                self._policies,
                (b"ratelimit", b'"%b";r=0;t=%d' % (buckets.name.encode(), seconds)),
            ),
        )


def note_all(shared: Sharing, used: Used) -> None:
    """Other processes will be told what was used."""
    for buckets, bucket, _, step in used:
        shared.note(buckets, bucket, step)


def _limits(used: Used, now: float) -> bytes:
    """What is left, and the seconds until everything is there again."""
    return b", ".join(
        b'"%b";r=%d;t=%d' % (buckets.name.encode(), buckets.left(full_at, now), ceil(full_at - now))
        for buckets, _, full_at, _ in used
    )


def address_of(head: RequestHead) -> str | None:
    """The client's address; of IPv6, the network that one customer has."""
    if head.client is None:
        return None
    address = head.client[0]
    return network_of(address) if ":" in address else address


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """The first 64 bits, or the IPv4 address that it stands for."""
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or parsed.packed[:8].hex())


def subject_of(head: RequestHead) -> str | None:
    """Who asks. Whoever shows no credentials is limited by address only."""
    subject = head.fact(Principal).subject
    return None if subject == ANONYMOUS else subject


def public_of(head: RequestHead) -> str | None:
    """For whom, by a public key: all of a tenant have one rate together."""
    principal = head.fact(Principal)
    return principal.tenant_id if principal.is_public() else None


def tenant_of(head: RequestHead) -> str | None:
    """For whom."""
    principal = head.fact(Principal)
    return None if principal.subject == ANONYMOUS else principal.tenant_id
