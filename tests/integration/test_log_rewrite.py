"""The log is copied without erased users, killed at every step: every other record is the same at its place."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from contracts.blank import BLANK
from contracts.erasure import erasure_of
from contracts.event import UserEvent
from contracts.record import from_value
from contracts.versions import encode_event
from footfall.local.embedded import spawn_child
from operations.rewrite.topics import Configs, Topics, topics
from operations.settings import TopicSettings
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, counts
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import OLD, a_day, done
from tests.drivers.rewriting import bytes_of, environment_of, rewrite, rewrite_json
from tests.drivers.sealed import key_store_of
from tests.processes import wait_until
from tests.producing import (
    Raw,
    an_event,
    produce,
    produce_transactions,
    record_of,
    rows,
    sql,
    start_projector,
)

AGAIN_IF_LONG = ("rewrite_copied",) if os.environ.get("FOOTFALL_LONG") else ()
CANARY = "alice+canary@example.com"
KINDS = ("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT")


def of_canary(count: int) -> list[Raw]:
    moment = datetime.now(UTC)
    payloads = [{"productId": f"p-{n}", "mail": f"{CANARY} {n}"} for n in range(count)]
    return [
        record_of(an_event(CANARY, payload, event_type=KINDS[n % 4], timestamp=moment))
        for n, payload in enumerate(payloads)
    ]


def letters() -> list[Raw]:
    """Records that are set aside: of the canary by key and by value, and of a neighbour."""
    broken = encode_event(an_event(CANARY)).replace(b"PRODUCT_VIEW", b"wink")
    return [Raw(broken, CANARY.encode()), Raw(broken, None, 3), Raw(b'{"userId":"bob"', b"bob")]


def a_log(footfall: Footfall) -> int:
    """Fills the topic with what a topic may hold; returns how many offsets a projector passes."""
    mixed = record_of(an_event("neighbour"), 2)
    records = [*a_day(60), *of_canary(24), *letters(), Raw(mixed.value, CANARY.encode(), 2), *a_day(20)]
    produce(footfall, records)
    parts = [(True, a_day(5)), (False, of_canary(3)), (True, of_canary(2)), (False, a_day(2))]
    asyncio.run(produce_transactions(footfall.servers.kafka, footfall.topic, parts))
    last: dict[int, int] = {}
    for partition, offset in bytes_of(footfall, footfall.topic):
        last[partition] = max(offset + 1, last.get(partition, 0))
    return sum(last.values())


def rows_of_canary(footfall: Footfall) -> list[object]:
    return [row for row in rows(footfall) if row["user_id"] == CANARY]


def test_killed_at_every_step_the_new_topic_is_the_log_without_the_erased(footfall: Footfall) -> None:
    old, new, count = footfall.topic, f"{footfall.topic}.1", a_log(footfall)
    front, projector = footfall.start("front"), start_projector(footfall)
    wait_until(lambda: done(footfall, OLD) >= count, 30, "the log to be projected")
    wait_until(lambda: CANARY in str(bytes_of(footfall, f"{old}-dlq")), 30, "a letter to be published")
    privacy(footfall, "erase", CANARY, "--yes")
    produce(footfall, of_canary(1))  # the user is back: what came after the marker stays
    wait_until(lambda: len(rows_of_canary(footfall)) == 1, 30, "the user to be back")
    before, cursor = counts(footfall), feed(front.url, "beginning")[1]
    planned = rewrite_json(footfall, "plan")
    assert planned["users"] == 1

    for killed_at in ("rewrite_registered", "rewrite_copied", *AGAIN_IF_LONG):
        rewrite(footfall, "copy", killed_at=killed_at)
    produce(footfall, a_day(12))
    assert "is another_history" in too_early(footfall, new)
    rewrite(footfall, "copy")
    produce(footfall, a_day(9))
    rewrite(footfall, "switch", "--yes", killed_at="rewrite_closed")
    with pytest.raises(MessageSizeTooLargeError):
        produce(footfall, of_canary(1))
    rewrite(footfall, "switch", "--yes", killed_at="rewrite_before_switch")
    assert {row["kafka_topic"] for row in rows(footfall)} == {old}
    rewrite(footfall, "switch", "--yes", killed_at="rewrite_switched")
    assert "is the log already" in rewrite(footfall, "switch", "--yes", code=1)
    assert {row["kafka_topic"] for row in rows(footfall)} == {new}
    wait_until(lambda: stopped(footfall) == {"another_history"}, 30, "the projector of the old topic to stop")
    assert projector.terminate() == 0
    assert_the_same_but_for_the_erased(footfall, old, new)
    rewrite(footfall, "finish", "--yes", killed_at="rewrite_deleted")
    rewrite(footfall, "finish", "--yes")

    footfall.topic = new
    front.terminate()
    start_projector(footfall, KAFKA_DLQ_TOPIC=f"{old}-dlq.1", KAFKA_AUDIT_TOPIC=f"{old}-audit")
    front = footfall.start("front")
    produce(footfall, a_day(7))
    wait_until(lambda: feed_count(front.url, cursor) == 28, 30, "the old cursor to reach the new events")
    assert counts(footfall) != before
    assert_rebuilt_the_same(footfall)
    assert "erased-" not in str([dict(row) for row in rows(footfall)])
    journal = [row["action"] for row in sql(footfall.servers, "SELECT action FROM ops.audit ORDER BY number")]
    assert Counter(journal)["privacy rewrite switch"] == 5


def test_a_log_that_was_sealed_later_is_rewritten_without_those_erased_since(footfall: Footfall) -> None:
    """Whom a sealed marker is of is known by the pseudonym that the projector noted; the key is destroyed by then."""
    keys, old, new = key_store_of(footfall), footfall.topic, f"{footfall.topic}.1"
    never_sealed = "never-sealed@example.com"
    plain = [*of_canary(9), *a_day(20), record_of(an_event(never_sealed)), *letters()]
    sealed = keys.sealed([*of_canary(3), record_of(an_event("neighbour"))])
    produce(footfall, [Raw(raw.value, raw.key, 2) for raw in (*plain, *sealed)])  # a hour has both of one user
    users = (CANARY, never_sealed)
    refused = privacy(footfall, "erase", *users, "--yes", "--wait", "0", code=1, keys=keys.environment())
    assert "has not applied" in refused
    assert "no projector has applied" in rewrite(footfall, "plan", code=1)
    projector = start_projector(footfall, **keys.environment())
    assert "No generation" in privacy(footfall, "erase", *users, "--yes", keys=keys.environment())
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), 30, "the keys to be destroyed")
    before = counts(footfall)
    assert rewrite_json(footfall, "plan")["users"] == 2
    for step in (("copy",), ("switch", "--yes"), ("finish", "--yes")):
        rewrite(footfall, *step)
    assert projector.terminate() == 0

    footfall.topic = new
    told = bytes_of(footfall, new)
    assert not any(user in str(told) for user in users)
    assert {raw.value for raw in sealed} <= {value for _, value, *_ in told.values()}
    start_projector(footfall, KAFKA_DLQ_TOPIC=f"{old}-dlq.1", KAFKA_AUDIT_TOPIC=f"{old}-audit", **keys.environment())
    assert_rebuilt_the_same(footfall)
    assert counts(footfall) == before
    assert "erased-" not in str([dict(row) for row in rows(footfall)])


def test_a_switch_that_is_interrupted_opens_the_topic_again(footfall: Footfall, tmp_path: Path) -> None:
    produce(footfall, a_day(5))
    rewrite(footfall, "copy")
    switch = start_switch(footfall, tmp_path / "switch.log", "rewrite_closed=sleep:60")
    wait_until(lambda: is_closed(footfall), 30, "the topic to be closed")
    switch.send_signal(signal.SIGINT)
    assert switch.wait(30) != 0
    produce(footfall, a_day(3))
    start_projector(footfall)
    rewrite(footfall, "switch", "--yes")


def start_switch(footfall: Footfall, log: Path, failpoints: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, **environment_of(footfall), "FOOTFALL_FAILPOINTS": failpoints}
    argv = [sys.executable, "-m", "footfall", "privacy", "rewrite", "switch", "--yes"]
    return spawn_child(argv, death_signal=signal.SIGKILL, env=environment, log_path=log)


def is_closed(footfall: Footfall) -> bool:
    try:
        produce(footfall, a_day(1))
    except MessageSizeTooLargeError:
        return True
    return False


def test_a_switch_that_cannot_open_the_topic_again_says_that_it_is_closed(
    footfall: Footfall, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(footfall, a_day(5))
    rewrite(footfall, "copy")
    configure = Topics.configure

    async def refused(self: Topics, topic: str, configs: Configs) -> None:
        if topic == footfall.topic and "max.message.bytes" not in configs:
            raise TopicAuthorizationFailedError("topic")
        await configure(self, topic, configs)

    with monkeypatch.context() as patched:
        patched.setattr(Topics, "configure", refused)
        said = rewrite(footfall, "switch", "--yes", code=1, failpoints="rewrite_closed=fail")
    for words in ("InjectedError", "could not be opened again (TopicAuthorizationFailedError", "rewrite abandon"):
        assert words in said
    assert is_closed(footfall)
    audited = "SELECT outcome FROM ops.audit WHERE action = 'privacy rewrite switch' ORDER BY number"
    assert [row[0] for row in sql(footfall.servers, audited)] == ["begun", "failed"]
    rewrite(footfall, "abandon", "--yes")
    produce(footfall, a_day(1))


def test_a_switch_of_which_postgresql_did_not_say_how_it_ended_is_called_unknown(footfall: Footfall) -> None:
    produce(footfall, a_day(5))
    start_projector(footfall)
    rewrite(footfall, "copy")
    said = rewrite(footfall, "switch", "--yes", code=1, failpoints="rewrite_before_switch=fail")
    assert "PostgreSQL did not say whether the log is switched" in said
    assert is_closed(footfall)
    rewrite(footfall, "switch", "--yes")
    assert {row["kafka_topic"] for row in rows(footfall)} == {f"{footfall.topic}.1"}


def feed(url: str, since: str) -> tuple[int, str]:
    answer = httpx.get(f"{url}/events/feed", params={"since": since, "limit": 1000})
    assert answer.status_code == 200, answer.text
    return len(answer.json()), answer.headers["footfall-cursor"]


def feed_count(url: str, since: str) -> int:
    return feed(url, since)[0]


def stopped(footfall: Footfall) -> set[str]:
    found = sql(footfall.servers, f"SELECT stopped_reason FROM {OLD}.checkpoints WHERE topic = '{footfall.topic}'")
    return {str(row["stopped_reason"]).partition(":")[0] for row in found}


def too_early(footfall: Footfall, new: str) -> str:
    """What a projector says that reads the new topic before it is the log."""
    early = footfall.start("projector", ready=False, KAFKA_TOPIC=new)

    def reasons() -> str:
        found = sql(footfall.servers, f"SELECT stopped_reason FROM {OLD}.checkpoints WHERE topic = '{new}'")
        return " ".join(f"is {row['stopped_reason']}" for row in found if row["stopped_reason"])

    wait_until(lambda: reasons().count("is another_history") == 6, 30, "every partition of the new topic to be refused")
    assert early.terminate() == 0
    return reasons()


def assert_the_same_but_for_the_erased(footfall: Footfall, old: str, new: str) -> None:
    """Compares both topics without Footfall's code, and with what `verify` counts."""
    was, is_now = bytes_of(footfall, old), bytes_of(footfall, new)
    assert CANARY in str(was)
    last = {partition: offset for (partition, offset), told in was.items() if erasure_of(told[1])}
    became: Counter[str] = Counter()
    for at, told in is_now.items():
        event = from_value(told[1])
        if told[1] == BLANK:
            became["blank"] += 1
            assert at not in was or was[at][1] == BLANK
        elif told == was[at]:
            became["same"] += 1
            assert CANARY not in str(told) or at[1] > last[at[0]]
        elif isinstance(event, UserEvent) and CANARY in str(was[at][1]):
            became["stub"] += 1
            assert set(event.payload) <= {"productId"}
        else:
            became["other"] += 1
    assert is_now.keys() >= was.keys()
    ends = dict(is_now.keys())  # of each partition the last offset
    assert len(is_now) == sum(end + 1 for end in ends.values())
    assert became == {"same": 106 + 1 + 1, "stub": 26, "other": 6 + 2 + 1, "blank": len(is_now) - 143}, became


def test_a_copy_that_kafka_refuses_says_in_which_topic_and_goes_on_later(footfall: Footfall) -> None:
    produce(footfall, a_day(5))
    rewrite(footfall, "copy")
    produce(footfall, a_day(30))
    new = f"{footfall.topic}.1"
    asyncio.run(configured(footfall, new, {"max.message.bytes": "10"}))
    said = rewrite(footfall, "copy", code=1)
    assert f"of {new}: MessageSizeTooLargeError" in said
    assert "repeat the step" in said
    asyncio.run(configured(footfall, new, {}))
    start_projector(footfall)
    rewrite(footfall, "switch", "--yes")


async def configured(footfall: Footfall, topic: str, configs: Configs) -> None:
    async with topics(TopicSettings(kafka_bootstrap_servers=footfall.servers.kafka).client_options()) as kafka:
        await kafka.configure(topic, configs)
