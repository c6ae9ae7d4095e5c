"""A tenant's day: what Kafka acknowledged counts, and once it is used up nothing more is taken until midnight (UTC)."""

from collections.abc import Callable
from typing import Any

import pytest

from command_side.batch_submission import Batches
from command_side.idempotency import RecentKeys
from command_side.policies.command_heads import CommandHead
from command_side.policies.daily_quota import DailyQuota
from command_side.publishing.counted_log import DAY, CountedLog, DayOfTenants
from command_side.publishing.event_log import BUSY, FAILED, SOMEWHERE, UNKNOWN, Acknowledged, NotTaken, Outcome
from command_side.submission import Commands
from contracts.record import EventRecord, key_of
from tests.shipped_types import RULES
from web.policies.decisions import ADMIT, Refuse
from web.policies.limits.limit_side import rates_of
from web.policies.limits.rate_limits import public_of, tenant_of
from web.policies.limits.settings import LimitSettings
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead

BODY = b'{"userId":"u","eventType":"LOGIN"}'
MORNING = 20_000 * DAY + 3_600.0  # 01:00
COMMAND = CommandHead(b"application/json", None, 2, 65_536)


class Clock:
    now = MORNING

    def __call__(self) -> float:
        return self.now


class Log:
    """Answers every record with `outcome`."""

    outcome: Any = Acknowledged(0, 1)

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> Any:
        if self.outcome is BUSY:
            return BUSY
        on_result(self.outcome)
        return None

    async def publish_all(self, records: Any) -> list[Outcome] | NotTaken:
        return BUSY if self.outcome is BUSY else [self.outcome for _ in records]

    async def partition_count(self) -> int:
        return 1

    async def connected(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def day(clock: Clock) -> DayOfTenants:
    return DayOfTenants(clock)


def record(tenant: str, size: int = 100) -> EventRecord:
    return EventRecord(key_of(tenant, "user-1"), b"x" * size, [])


def command_of(tenant: str, public: str = "") -> RequestHead:
    head = RequestHead("POST", "/events/generate", b"/events/generate", b"", [(b"content-length", b"2")], None, "http")
    head.facts = {Principal: Principal(tenant, "key:1", frozenset(AccessScope), public), CommandHead: COMMAND}
    return head


def test_a_clock_that_is_set_back_over_midnight_gives_nobody_a_day_anew(day: DayOfTenants, clock: Clock) -> None:
    clock.now += 86_400
    day.count(record("acme"))
    for _ in range(3):
        clock.now -= 86_400
        assert day.of("acme").events == 1
        clock.now += 86_400
        assert day.of("acme").events == 1
    clock.now -= 2 * 86_400  # it was wrong by more: that day is not this one's
    assert day.of("acme").events == 0


async def test_what_was_acknowledged_counts_and_nothing_else(day: DayOfTenants) -> None:
    inner = Log()
    log = CountedLog(inner, day)
    not_stored: list[Outcome] = [FAILED, UNKNOWN, BUSY]
    for outcome in not_stored:
        inner.outcome = outcome
        log.publish_nowait(record("acme"), lambda _: None)
        await log.publish_all([record("acme"), record("acme")])
    assert day.of("acme").events == 0
    for stored in (Acknowledged(0, 1), SOMEWHERE):
        inner.outcome = stored
        log.publish_nowait(record("acme"), lambda _: None)
        await log.publish_all([record("acme"), record("default", 7)])
    assert (day.of("acme").events, day.of("acme").bytes) == (4, 400)
    assert (day.of("default").events, day.of("default").bytes) == (2, 14)
    assert day.of("umbrella").events == 0


@pytest.mark.parametrize(
    ("quota", "sentence"), [({"events": 3, "size": 0}, "3 events"), ({"events": 0, "size": 300}, "300 bytes")]
)
def test_a_tenant_that_used_up_its_day_is_refused_until_midnight(
    day: DayOfTenants, clock: Clock, quota: dict[str, int], sentence: str
) -> None:
    policy = DailyQuota(day, **quota, public_percent=50)
    for _ in range(3):
        assert policy(command_of("acme")) is ADMIT
        day.count(record("acme"))
    refused = policy(command_of("acme"))
    assert isinstance(refused, Refuse)
    assert (refused.status, sentence in refused.error) == (429, True)
    assert dict(refused.headers)[b"retry-after"] == b"%d" % (23 * 3_600)
    assert policy(command_of("umbrella")) is ADMIT
    reading = command_of("acme")
    del reading.facts[CommandHead]
    assert policy(reading) is ADMIT
    clock.now += 23 * 3_600
    assert policy(command_of("acme")) is ADMIT
    assert day.of("acme").events == 0


async def test_public_keys_leave_the_rest_of_the_day_to_the_servers_of_their_tenant(day: DayOfTenants) -> None:
    """Two public keys use up their part, alone and in a batch; the tenant's servers use the rest."""
    log, public_log = CountedLog(Log(), day), CountedLog(Log(), day, public=True)
    policy = DailyQuota(day, events=6, size=0, public_percent=50)
    commands = Commands(log, RecentKeys(max_bytes=1_000_000, window=60), RULES, public_log)
    batches = Batches(log, RecentKeys(max_bytes=1_000_000, window=60), RULES, public_log)

    def post(head: RequestHead) -> None:
        assert policy(head) is ADMIT
        commands.submit(head.fact(Principal), BODY, b"k" if head.fact(Principal).is_public() else None, "r", print)

    post(command_of("acme", "k1"))
    head = command_of("acme", "k2")
    assert policy(head) is ADMIT
    await batches.handle(head.fact(Principal), b"[%b,%b]" % (BODY, BODY), "r", lines=False, atomic=False)
    for public in ("k1", "k2", "k3"):
        refused = policy(command_of("acme", public))
        assert isinstance(refused, Refuse)
        assert (refused.status, "public keys of the tenant have stored their 3 events" in refused.error) == (429, True)
    assert policy(command_of("umbrella", "k4")) is ADMIT
    for _ in range(3):
        post(command_of("acme"))
    assert isinstance(policy(command_of("acme")), Refuse)


def test_public_keys_have_a_part_of_the_rate_of_their_tenant_together() -> None:
    settings = LimitSettings(limit_tenant=10, public_keys_percent=40)
    [limits] = rates_of(settings, {"public": public_of, "tenant": tenant_of})
    assert not any(isinstance(limits(command_of("acme", public)), Refuse) for public in ("k1", "k2"))
    assert sum(isinstance(limits(command_of("acme", "k3")), Refuse) for _ in range(6)) == 4
    assert sum(isinstance(limits(command_of("acme")), Refuse) for _ in range(8)) == 2
