"""Rates: so many units at once, so many a second for ever, and nobody pays for anybody else."""

from typing import Any

import pytest

from web.policies.decisions import ADMIT, Admit, Decision, Refuse
from web.policies.limits.cost import SECOND, UNKNOWN_BODY, cost_of
from web.policies.limits.rate_limits import RateLimits, address_of, network_of, subject_of, tenant_of
from web.policies.limits.rates import Buckets, Rate
from web.policies.principal import ANONYMOUS, AccessScope, Principal
from web.policies.remembered import Remembered
from web.policies.request_head import RequestHead

KEYS = {"address": address_of, "subject": subject_of, "tenant": tenant_of}


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, **units: int) -> RateLimits:
    return RateLimits([(Rate(name, most, 60.0), KEYS[name]) for name, most in units.items()], clock)


def request(
    subject: str = "key:1", tenant: str = "acme", address: str = "192.0.2.1", method: str = "POST", **headers: str
) -> RequestHead:
    head = RequestHead(method, "/here", b"/here", b"", [], (address, 1), "http")
    head.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    head.facts = {Principal: Principal(tenant, subject, frozenset(AccessScope))}
    return head


def sent(policy: RateLimits, number: int, **of: Any) -> int:
    """How many of them were admitted."""
    of = {"content_length": "9", **of}
    return sum(isinstance(policy(request(**of)), Admit) for _ in range(number))


def header(decision: Decision, name: bytes) -> bytes:
    assert isinstance(decision, Admit | Refuse)
    return dict(decision.headers)[name]


@pytest.mark.parametrize("units", [1, 7, 60, 1_000])
def test_so_many_at_once_and_then_so_many_a_second(clock: Clock, units: int) -> None:
    policy = limits(clock, subject=units)
    assert sent(policy, units + 50) == units
    admitted = 0
    for _ in range(600):
        clock.now += 1
        admitted += sent(policy, 1 + units // 30)
    assert admitted == pytest.approx(10 * units, abs=1)
    clock.now += 600
    assert sent(policy, units + 50) == units  # no more than the whole is ever saved up


def test_a_request_that_is_refused_uses_nothing(clock: Clock) -> None:
    policy = limits(clock, subject=60, tenant=30)
    assert sent(policy, 500) == 30
    clock.now += 30
    assert sent(policy, 500) == 15
    assert sent(policy, 500, tenant="umbrella") == 30  # of the 45 that the subject has left


def test_nobody_pays_for_anybody_else(clock: Clock) -> None:
    policy = limits(clock, subject=10)
    assert sent(policy, 20, subject="key:1") == 10
    assert sent(policy, 20, subject="key:2") == 10


def test_all_subjects_of_a_tenant_share_its_rate_and_all_tenants_of_an_address_its(clock: Clock) -> None:
    policy = limits(clock, address=25, subject=10, tenant=15)
    assert [sent(policy, 20, subject=name) for name in ("key:1", "key:2", "key:3")] == [10, 5, 0]
    assert sent(policy, 20, subject="key:4", tenant="umbrella") == 10
    assert sent(policy, 20, subject="key:5", tenant="third") == 0
    assert sent(policy, 20, subject="key:5", tenant="third", address="192.0.2.2") == 10


def test_who_shows_no_credentials_is_limited_by_address_only(clock: Clock) -> None:
    assert sent(limits(clock, subject=1, tenant=1), 50, subject=ANONYMOUS, tenant="") == 50
    assert sent(limits(clock, address=5), 50, subject=ANONYMOUS, tenant="") == 5


def test_the_answer_says_what_is_left_once_half_is_used(clock: Clock) -> None:
    policy = limits(clock, subject=60)
    decisions = [policy(request(content_length="9")) for _ in range(61)]
    assert decisions[:30] == [ADMIT] * 30
    assert header(decisions[30], b"ratelimit-policy") == b'"subject";q=60;w=60'
    assert [header(decision, b"ratelimit") for decision in decisions[30:33]] == [
        b'"subject";r=29;t=31',
        b'"subject";r=28;t=32',
        b'"subject";r=27;t=33',
    ]
    assert header(decisions[59], b"ratelimit") == b'"subject";r=0;t=60'


def test_a_refusal_says_which_limit_and_when_to_come_back(clock: Clock) -> None:
    policy = limits(clock, subject=1_000, tenant=4)
    sent(policy, 4)
    refused = policy(request(content_length="9"))
    assert isinstance(refused, Refuse)
    assert refused.status == 429
    assert refused.error == "Too many requests: the limit of this tenant. Nothing was done; try again later."
    assert dict(refused.headers) == {
        b"retry-after": b"15",
        b"ratelimit-policy": b'"subject";q=1000;w=60, "tenant";q=4;w=60',
        b"ratelimit": b'"tenant";r=0;t=15',
    }
    clock.now += 15
    assert isinstance(policy(request(content_length="9")), Admit)


@pytest.mark.parametrize(
    ("method", "headers", "units"),
    [
        ("POST", {"content_length": "93"}, 1),
        ("POST", {"content_length": "4095"}, 1),
        ("POST", {"content_length": "4096"}, 2),
        ("POST", {"content_length": "1048576"}, 257),
        ("POST", {"transfer_encoding": "chunked"}, UNKNOWN_BODY),
        ("GET", {}, 1),
        ("OPTIONS", {}, 1),
    ],
)
def test_a_large_body_costs_more(method: str, headers: dict[str, str], units: int) -> None:
    assert cost_of(request(method=method, **headers)) == units


def test_what_costs_more_than_everything_takes_everything(clock: Clock) -> None:
    policy = limits(clock, subject=10)
    assert isinstance(policy(request(content_length="1048576")), Admit)
    assert sent(policy, 5) == 0
    clock.now += 60
    assert isinstance(policy(request(content_length="1048576")), Admit)


def test_a_read_pays_for_its_time_when_it_has_ended(clock: Clock) -> None:
    policy = limits(clock, subject=60)
    head = request(method="GET")
    decision = policy(head)
    assert isinstance(decision, Admit)
    assert decision.release is not None
    clock.now += 6  # which costs 120 units, of which 7 were given back by now
    decision.release(head)
    refused = policy(request(method="GET"))
    assert int(header(refused, b"retry-after")) == 6 * SECOND - 60 + 1
    stream = request(method="GET")
    stream.path = "/events/stream"
    clock.now += 600
    admitted = policy(stream)
    assert isinstance(admitted, Admit)
    assert admitted.release is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_addresses_of_one_customer_are_one(one: str, other: str) -> None:
    assert address_of(request(address=one)) == address_of(request(address=other))
    assert network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")


def test_memory_is_bounded_and_who_asks_often_is_not_forgotten(clock: Clock) -> None:
    buckets = Buckets(Rate("address", 10, 60.0), most=100)
    busy = buckets.of("busy")
    for number in range(10_000):
        buckets.of(f"address-{number}")
        assert buckets.of("busy") is busy
        assert len(buckets) <= 100


def test_what_is_remembered_is_what_was_used_last() -> None:
    kept: Remembered[int, int] = Remembered(10)
    for number in range(100):
        kept.put(number, number)
        assert kept.get(number) == number
        assert kept.get(0) == 0
        assert len(kept) <= 10
    assert [kept.get(number) for number in range(95, 100)] == [95, 96, 97, 98, 99][-5:]
    assert Remembered[int, int](0).get(1) is None


def test_a_look_at_the_health_costs_nothing(clock: Clock) -> None:
    policy = limits(clock, subject=1)
    assert sent(policy, 5) == 1
    for path in ("/health", "/health/live", "/health/ready"):
        probe = request(method="GET")
        probe.path = path
        assert policy(probe) is ADMIT
    metrics = request(method="GET")
    metrics.path = "/metrics"
    assert isinstance(policy(metrics), Refuse)
