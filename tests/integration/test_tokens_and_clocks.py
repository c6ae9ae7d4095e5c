"""Access tokens at a server whose clock is moved: by less than the leeway nobody notices, by more it says so."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.token_issuer import keys_served, token
from tests.processes import Process, wait_until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)  # Debian's package `faketime`
COMMAND = {"userId": "user-1", "eventType": "LOGIN", "payload": {}}
LEEWAY = 30  # seconds, as it is shipped

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime to move the clock of a process")


@pytest.fixture
def door() -> Iterator[dict[str, str]]:
    with keys_served() as settings:
        yield settings


def moved(footfall: Footfall, door: dict[str, str], seconds: int) -> Process:
    """A command side whose clock is so many seconds ahead of the issuer's."""
    clock = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return footfall.start("command-side", ready=True, **door, **clock)


def answer(side: Process, **claims: object) -> tuple[int, str]:
    text = token("ES256", time.time(), scope="events:write", tenant_id="default", **claims).decode()
    headers = {"Authorization": f"Bearer {text}"}
    found = httpx.post(f"{side.url}/events/generate", json=COMMAND, headers=headers, timeout=30)
    return found.status_code, found.headers.get("www-authenticate", "")


@pytest.mark.parametrize("seconds", [-LEEWAY - 15, -LEEWAY + 10, LEEWAY - 10, LEEWAY + 15])
def test_clocks_may_differ_by_the_leeway_and_no_more(footfall: Footfall, door: dict[str, str], seconds: int) -> None:
    side, now = moved(footfall, door, seconds), int(time.time())
    within = abs(seconds) < LEEWAY
    wait_until(lambda: answer(side)[0] != 503, 60, "the keys")
    just_made = answer(side, iat=now, nbf=now)
    just_over = answer(side, iat=now - 60, exp=now)
    assert (just_made[0] == 201) is (within or seconds > 0), just_made
    assert (just_over[0] == 201) is (within or seconds < 0), just_over
    for status, told in (just_made, just_over):
        assert status in {201, 401}
        assert (status == 201) is (told == "")
