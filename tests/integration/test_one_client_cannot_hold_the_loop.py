"""The worst bodies that one client may send, in a loop: others are answered in between."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process

BATCH, GENERATE = "/events/generate/batch", "/events/generate"
LISTS: list[Any] = [[[[[[[[[[]]]]]]]]] for _ in range(750)]
WORST = json.dumps(
    [{"userId": "u", "eventType": "LOGIN", "payload": {"a": LISTS}}] * 62, separators=(",", ":")
).encode()
ENDLESS = b"[" + b"[]," * 300_000 + b"[]]"
BATCHES = 4
IN_BETWEEN = 10  # single commands for each batch, of the 62 slices that it is judged in


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side", IDEMPOTENCY_MEMORY_BYTES="0")


def test_single_commands_are_answered_while_the_worst_batches_are_judged(side: Process) -> None:
    under_way, ended = threading.Event(), threading.Event()
    in_between = 0

    def attack() -> list[int]:
        with httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
            statuses = []
            for body in [WORST, ENDLESS] * BATCHES:
                under_way.set()
                statuses.append(client.post(BATCH, content=body).status_code)
            ended.set()
            return statuses

    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
        attacking = pool.submit(attack)
        assert under_way.wait(PATIENCE)
        while not ended.is_set():
            assert client.post(GENERATE, json={"userId": "v", "eventType": "LOGIN"}).status_code == 201
            in_between += 1
        assert attacking.result(PATIENCE) == [201, 400] * BATCHES
    assert in_between >= BATCHES * IN_BETWEEN
