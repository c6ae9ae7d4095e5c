"""Rates over several processes, by a real Valkey: a limit holds for all together, and goes on when Valkey is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from valkey.asyncio import Valkey

from footfall.processes.secrets.secret_files import FileSecret
from tests.drivers.valkey import RunningValkey, running_valkey
from tests.patience import PATIENCE
from web.policies.decisions import Admit
from web.policies.limits import valkey_rates
from web.policies.limits.rate_limits import RateLimits, subject_of
from web.policies.limits.rates import Rate
from web.policies.limits.valkey_rates import LENT, SharedRates
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead

LONG = 86_400.0  # seconds: nothing is given back while a test runs


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[RunningValkey]:
    async with running_valkey(tmp_path) as running:
        yield running


Processes = Callable[[int, int], "list[Sharer]"]


class Sharer:
    """One process, as far as its limits go. Its rounds are run by the test."""

    def __init__(self, url: str, units: int, window: float = LONG, clock: Callable[[], float] = time.monotonic) -> None:
        self.shared = SharedRates(SecretStr(url), clock)
        self._policy = RateLimits([(Rate("subject", units, window), subject_of)], clock, self.shared)

    def admitted(self, number: int, subject: str = "key:1") -> int:
        return sum(isinstance(self._policy(request(subject)), Admit) for _ in range(number))


def request(subject: str) -> RequestHead:
    head = RequestHead("POST", "/here", b"/here", b"", [(b"content-length", b"9")], None, "http")
    head.facts = {Principal: Principal("acme", subject, frozenset(AccessScope))}
    return head


@pytest.fixture
async def processes(valkey: RunningValkey) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:

        def several(number: int, units: int) -> list[Sharer]:
            found = [Sharer(valkey.url, units) for _ in range(number)]
            for one in found:
                stack.push_async_callback(one.shared.close)
            return found

        yield several


async def round_of(sharers: list[Sharer]) -> None:
    for sharer in sharers:
        await sharer.shared.tell()


@pytest.mark.parametrize("at_once", [7, 800])
async def test_processes_together_admit_what_one_would(processes: Processes, at_once: int) -> None:
    four = processes(4, 800)
    await round_of(four)
    admitted = 0
    for _ in range(60):
        admitted += sum(sharer.admitted(at_once) for sharer in four)
        await round_of(four)
    assert 800 <= admitted <= 800 * (1 + 4 * LENT)
    assert sum(sharer.admitted(50) for sharer in four) == 0
    assert sum(sharer.admitted(5, "key:2") for sharer in four) == 20  # another subject has its own


async def test_a_process_that_has_not_heard_of_a_key_lends_a_part(processes: Processes) -> None:
    first, second = processes(2, 800)
    await round_of([first, second])
    for _ in range(20):
        first.admitted(100)
        await first.shared.tell()
    assert second.admitted(800) == 800 * LENT
    await second.shared.tell()
    assert second.admitted(800) == 0


async def test_nobody_waits_for_hours_because_the_clock_of_valkey_went_back(valkey: RunningValkey) -> None:
    """What was told before says that a bucket is full again far in the future."""
    now = 0.0
    one = Sharer(valkey.url, 60, 60.0, lambda: now)
    await one.shared.tell()
    assert one.admitted(1) == 1
    await one.shared.tell()
    async with Valkey.from_url(valkey.url, decode_responses=True) as client:
        [key] = await client.keys("*")
        full_at = float(await client.get(key))
        await client.set(key, f"{full_at + 7_200:.6f}", px=7_300_000)
    one.admitted(1)
    await one.shared.tell()
    now += 180.0
    assert one.admitted(1) == 1
    await one.shared.close()


async def test_what_is_used_while_valkey_is_told_is_not_lost(processes: Processes) -> None:
    first, second = processes(2, 800)
    await round_of([first, second])
    telling = asyncio.create_task(first.shared.tell())
    admitted = first.admitted(10)
    await asyncio.sleep(0)
    admitted += first.admitted(10)
    await telling
    await first.shared.tell()
    for _ in range(20):
        admitted += second.admitted(10_000)
        await second.shared.tell()
    assert admitted == 800


async def test_without_valkey_each_process_counts_for_itself_and_then_they_share_again(
    processes: Processes, valkey: RunningValkey
) -> None:
    first, second = processes(2, 80)
    await round_of([first, second])
    assert (await first.shared.state()).detail == ""
    valkey.stop()
    await round_of([first, second])
    state = await first.shared.state()
    assert state.ok
    assert "each process counts for itself" in state.detail
    assert first.admitted(200) == 80  # its own limit, with nobody to lend from
    assert second.admitted(200) == 80
    await valkey.start()
    await round_of([first, second])
    assert (await first.shared.state()).detail == ""
    await round_of([first, second])
    assert first.admitted(10) + second.admitted(10) == 0


@pytest.mark.parametrize("fault", ["stopped", "frozen", "full"])
async def test_who_keeps_to_the_limit_is_not_refused_when_valkey_is_back(
    valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Half of the limit for a day and longer: most of what could not be told was given back long ago."""
    now = 0.0
    monkeypatch.setattr(valkey_rates, "TIMEOUT", 0.2)
    two = [Sharer(valkey.url, 60, 60.0, lambda: now) for _ in range(2)]
    await round_of(two)
    await break_valkey(valkey, fault)
    for number in range(100):
        now += 4.0  # in which four units are given back, and two are used
        assert sum(sharer.admitted(1) for sharer in two) == 2
        if number % 25 == 0:
            await round_of(two)
    for sharer in two:
        assert (await sharer.shared.state()).detail
    await mend_valkey(valkey, fault)
    for _ in range(2):
        await round_of(two)
    for _ in range(10):
        now += 4.0
        assert sum(sharer.admitted(1) for sharer in two) == 2
        await round_of(two)
    for sharer in two:
        assert not (await sharer.shared.state()).detail
        await sharer.shared.close()


async def break_valkey(valkey: RunningValkey, fault: str) -> None:
    if fault == "stopped":
        valkey.stop()
    elif fault == "frozen":
        valkey.freeze()
    else:
        async with Valkey.from_url(valkey.url) as operator:
            await operator.config_set("maxmemory", "1")


async def mend_valkey(valkey: RunningValkey, fault: str) -> None:
    if fault == "stopped":
        await valkey.start()
    elif fault == "frozen":
        valkey.thaw()
    else:
        async with Valkey.from_url(valkey.url) as operator:
            await operator.config_set("maxmemory", "0")


async def test_what_waits_for_a_valkey_that_is_away_is_bounded(
    processes: Processes, valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_rates, "MOST_BUCKETS", 100)
    [one] = processes(1, 80)
    valkey.stop()
    for number in range(5):
        assert sum(one.admitted(1, f"key:{number}-{each}") for each in range(90)) == 90
        await one.shared.tell()
    assert len(one.shared._touched) == 100
    await valkey.start()
    await one.shared.tell()
    assert one.shared._touched == []
    assert one.admitted(1, "key:0-0") == 1
    assert len(one.shared._touched) == 1, "who was left out is told of again"


async def test_rounds_run_while_the_process_serves(valkey: RunningValkey) -> None:
    first, second = Sharer(valkey.url, 80), Sharer(valkey.url, 80)
    async with first.shared.running(), second.shared.running():
        admitted = 0
        async with asyncio.timeout(PATIENCE):
            while True:
                admitted += first.admitted(1) + second.admitted(1)
                if admitted >= 80 and first.admitted(1) + second.admitted(1) == 0:
                    break
                await asyncio.sleep(0.01)
    assert admitted <= 80 * (1 + 2 * LENT) + 2


async def test_a_password_that_changes_in_its_file_is_followed(valkey: RunningValkey, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(valkey.url)
    shared = SharedRates(FileSecret(file))
    try:
        await shared.tell()
        assert (await shared.state()).detail == ""
        async with Valkey.from_url(valkey.url) as operator:
            await operator.config_set("requirepass", "Sesame1")
            await operator.client_kill_filter(_type="normal", skipme=True)
        await shared.tell()
        assert (await shared.state()).detail.startswith("each process counts for itself")
        file.write_text(valkey.url.replace("://", "://:Sesame1@"))
        await shared.tell()
        assert (await shared.state()).detail == ""
    finally:
        await shared.close()
