"""`footfall replay` in a pipe and into handlers: real log, real processes; nothing else moves."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import run_to_end, wait_until
from tests.producing import Raw, an_event, checkpoints, produce, record_of

REPOSITORY = Path(__file__).resolve().parents[2]
T0 = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = 3
EACH = 40  # events a partition
MALFORMED = 2

HANDLERS = """
import pathlib

def sync(event):
    with open("seen.txt", "a") as file:
        file.write(f"{event.user_id} {event.payload['n']}\\n")

async def later(event):
    sync(event)

def failing(event):
    if event.payload["n"] == 7:
        raise ValueError("no sevens")
    sync(event)

not_callable = 3
"""


@pytest.fixture(scope="module")
def log(new_footfall: Callable[..., Footfall]) -> Iterator[Footfall]:
    """Each partition: one event a minute of `user-<partition>`; every fourth a LOGIN; two malformed in partition 1."""
    footfall = new_footfall(PARTITIONS)
    records = []
    for n in range(EACH):
        for p in range(PARTITIONS):
            kind = "LOGIN" if n % 4 == 0 else "PRODUCT_VIEW"
            event = an_event(f"user-{p}", {"n": n, "text": "東京 \u2028"}, event_type=kind, timestamp=T0)
            at_ms = int((T0 + timedelta(minutes=n)).timestamp() * 1000)
            records.append(Raw(encode_event(event), b"k", p, at_ms))
    later_ms = int((T0 + timedelta(minutes=EACH)).timestamp() * 1000)
    records += [Raw(b"secret nonsense", b"k", 1, later_ms), Raw(None, b"k", 1, later_ms)]
    produce(footfall, records)
    yield footfall
    footfall.close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "footfall", "replay", *arguments]


def environment(log: Footfall, **more: str) -> dict[str, str]:
    return {**os.environ, "ENVIRONMENT": "test", "PYTHONPATH": str(REPOSITORY), **log.environment(), **more}


def replay(log: Footfall, *arguments: str, cwd: Path = REPOSITORY, **more: str) -> "subprocess.CompletedProcess[str]":
    return run_to_end("replay", *arguments, environment={**log.environment(), **more}, cwd=cwd)


def lines(run: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def offsets(run: "subprocess.CompletedProcess[str]") -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for line in lines(run):
        found.setdefault(line["partition"], []).append(line["offset"])
    return found


def test_the_whole_log_is_printed_in_order_and_malformed_records_are_reported(log: Footfall) -> None:
    run = replay(log)
    found = lines(run)
    assert offsets(run) == {p: list(range(EACH)) for p in range(PARTITIONS)}
    for line in found:
        assert line["event"]["payload"] == {"n": line["offset"], "text": "東京 \u2028"}
        assert line["recordedAt"] == (T0 + timedelta(minutes=line["offset"])).isoformat(
            timespec="microseconds"
        ).replace("+00:00", "Z")
    assert run.stderr.splitlines()[-1] == "footfall: replay: 120 events replayed, 2 malformed records skipped"
    assert f"malformed record at partition 1, offset {EACH}: " in run.stderr
    assert "secret" not in run.stderr
    assert checkpoints(log) == {}  # the read model is as it was


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from-offset", "38"], {p: [38, 39] for p in range(3)}),
        (["--to-offset", "2"], {p: [0, 1] for p in range(3)}),
        (["--from-offset", "5", "--to-offset", "7", "--partition", "2"], {2: [5, 6]}),
        (["--from-offset", "1000"], {}),
        (["--from-offset", "9", "--to-offset", "3"], {}),
        (["--from-time", "2026-01-01T00:38:00Z"], {p: [38, 39] for p in range(3)}),
        (["--from-time", "2026-01-01T00:37:59.001+00:00", "--to-time", "2026-01-01T00:39:00"],
         {p: [38] for p in range(3)}),
        (["--to-time", "2026-01-01T01:02:00+01:00"], {p: [0, 1] for p in range(3)}),
        (["--from-time", "2027-01-01T00:00:00Z"], {}),
        (["--user", "user-2", "--to-offset", "2"], {2: [0, 1]}),
        (["--type", "LOGIN", "--to-offset", "9", "--partition", "0"], {0: [0, 4, 8]}),
        (["--tenant", "nobody"], {}),
        (["--partition", "0", "--partition", "1", "--to-offset", "1"], {0: [0], 1: [0]}),
    ],
)  # fmt: skip
def test_bounds_and_filters(log: Footfall, arguments: list[str], expected: dict[int, list[int]]) -> None:
    assert offsets(replay(log, *arguments)) == expected


def test_a_limit_ends_it(log: Footfall) -> None:
    assert len(lines(replay(log, "--limit", "7"))) == 7


def test_a_table_for_people(log: Footfall) -> None:
    run = replay(log, "--format", "table", "--partition", "1", "--limit", "2")
    head, first, second = run.stdout.split("\n")[:3]
    assert head.split() == ["part", "offset", "time", "type", "user", "payload"]
    assert first.split()[:5] == ["1", "0", "2026-01-01T00:00:00.000000Z", "LOGIN", "user-1"]
    assert second.split()[:5] == ["1", "1", "2026-01-01T00:00:00.000000Z", "PRODUCT_VIEW", "user-1"]


@pytest.fixture
def handlers(tmp_path: Path) -> Path:
    (tmp_path / "my_handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.mark.parametrize("name", ["sync", "later"])
def test_a_handler_sees_each_event_in_the_order_of_its_partition(log: Footfall, handlers: Path, name: str) -> None:
    run = replay(log, "--handler", f"my_handlers:{name}", cwd=handlers)
    assert (run.returncode, run.stdout) == (0, "")
    seen = [line.split() for line in (handlers / "seen.txt").read_text().splitlines()]
    for p in range(PARTITIONS):
        assert [int(n) for user, n in seen if user == f"user-{p}"] == list(range(EACH))


def test_a_handler_that_fails_ends_it_and_says_where(log: Footfall, handlers: Path) -> None:
    run = replay(log, "--handler", "my_handlers:failing", "--partition", "0", cwd=handlers)
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "footfall: replay: the handler failed at partition 0, offset 7: ValueError: no sevens",
        "footfall: replay: 7 events replayed until then",
    ]
    again = replay(log, "--handler", "my_handlers:sync", "--partition", "0", "--from-offset", "7", cwd=handlers)
    assert again.returncode == 0
    assert len((handlers / "seen.txt").read_text().splitlines()) == EACH


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--handler", "my_handlers:absent"], "there is no handler my_handlers:absent"),
        (["--handler", "absent:sync"], "there is no handler absent:sync"),
        (["--handler", "my_handlers"], "my_handlers is not a handler: give module:function"),
        (["--handler", "my_handlers:not_callable"], "my_handlers:not_callable is not a handler"),
        (["--partition", "9"], "has no partition 9; it has 3"),
    ],
)
def test_what_is_not_there_is_said(log: Footfall, handlers: Path, arguments: list[str], said: str) -> None:
    run = replay(log, *arguments, cwd=handlers)
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_no_such_topic_and_no_such_broker(log: Footfall) -> None:
    no_topic = replay(log, KAFKA_TOPIC="absent")
    assert (no_topic.returncode, no_topic.stdout) == (1, "")
    assert "there is no topic absent" in no_topic.stderr
    no_broker = replay(log, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    assert (no_broker.returncode, no_broker.stdout) == (2, "")
    assert no_broker.stderr.startswith("footfall: replay: Kafka cannot be used: ")
    assert no_broker.stderr.count("\n") == 1


def test_two_ways_to_say_where_to_begin_are_one_too_many(log: Footfall) -> None:
    run = replay(log, "--from-offset", "1", "--from-time", "2026-01-01")
    assert run.returncode == 2
    assert "give one" in run.stdout + run.stderr


def test_whoever_reads_may_stop_reading(new_footfall: Callable[..., Footfall]) -> None:
    footfall = new_footfall(1)
    produce(footfall, [record_of(an_event("u", {"text": "x" * 1000})) for _ in range(500)])  # more than a pipe holds
    reading = subprocess.Popen(
        command(), cwd=REPOSITORY, env=environment(footfall), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reading.stdout is not None
    assert reading.stderr is not None
    assert json.loads(reading.stdout.readline())["offset"] == 0
    reading.stdout.close()
    assert reading.wait(PATIENCE) == 0
    assert re.fullmatch(r"footfall: replay: \d+ events replayed\n", reading.stderr.read())
    reading.stderr.close()


def test_it_ends_where_the_log_ended_when_it_began(log: Footfall, handlers: Path) -> None:
    """A handler that adds to the log it reads would go on for ever otherwise."""
    (handlers / "adding.py").write_text(
        "import os, my_handlers\n"
        "from aiokafka import AIOKafkaProducer\n"
        "async def add(event):\n"
        "    my_handlers.sync(event)\n"
        "    async with AIOKafkaProducer(bootstrap_servers=os.environ['KAFKA_BOOTSTRAP_SERVERS']) as producer:\n"
        "        await producer.send_and_wait(os.environ['KAFKA_TOPIC'], b'more', partition=2)\n"
    )
    run = replay(log, "--handler", "adding:add", "--from-offset", "37", "--partition", "2", cwd=handlers)
    assert run.returncode == 0, run.stderr
    assert len((handlers / "seen.txt").read_text().splitlines()) == 3


def test_ctrl_c_ends_it_with_a_word(log: Footfall, handlers: Path) -> None:
    (handlers / "slow.py").write_text(
        "import asyncio, pathlib\n"
        "async def wait(event):\n"
        "    pathlib.Path('began').touch()\n"
        "    await asyncio.sleep(60)\n"
    )
    waiting = subprocess.Popen(
        command("--handler", "slow:wait"), cwd=handlers, env=environment(log), stderr=subprocess.PIPE, text=True
    )
    wait_until((handlers / "began").exists, 30, "the first event")
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 130
    assert said == "footfall: replay: interrupted; 0 events replayed until then\n"
