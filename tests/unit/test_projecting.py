"""What the facts about a partition mean: a table, without a server."""

from typing import Any, get_args

import msgspec
import pytest

from projector.consuming.consumer_group import Group
from projector.liveness.projecting import Lock, PendingOperation, judge
from projector.liveness.verdicts import JOIN_TIMEOUT, PATIENCE, PENDING_FACTOR, Joining, State, Verdict
from tests.drivers.partition_facts import OURS, PROJECTOR, STRANGER, some_facts

NOBODYS = Group("Stable", None, (PROJECTOR,))
STRANGERS = Group("Stable", STRANGER, (PROJECTOR, STRANGER))
REBALANCING = Group("PreparingRebalance")


LONG = PATIENCE + 1
SLOW = PendingOperation("the batch", PENDING_FACTOR * PATIENCE + 1, "QueryCanceledError (57014)", 7)
LOCK = Lock("read_g1.processed_events", "session 7 (user x, application 'psql')", PENDING_FACTOR * PATIENCE + 1)
BRIEF = msgspec.structs.replace(LOCK, since=0.1)

TABLE: list[tuple[str, dict[str, Any], State, bool]] = [
    ("everything is read", {"position": 100, "advanced": 900.0}, "idle", True),
    ("only markers are left", {"position": 99, "only_markers": True, "advanced": 900.0}, "idle", True),
    ("it moves", {}, "running", True),
    ("records have just come", {"advanced": 900.0, "next_age": 0.1}, "running", True),
    ("old records have just come, and it moves", {"advanced": LONG, "next_age": 9e9, "moved": True}, "running", True),
    ("it has stood for long", {"advanced": LONG, "next_age": LONG}, "standing", False),
    ("it has stood for long, and the next record's age is not known", {"advanced": LONG}, "standing", False),
    ("in a rebalance", {"group": REBALANCING}, "running", True),
    ("in a rebalance that lasts", {"group": REBALANCING, "advanced": LONG}, "standing", False),
    ("the group gave it to nobody", {"group": NOBODYS}, "unowned", False),
    ("the group gave it to nobody, and there is nothing to do", {"group": NOBODYS, "position": 100}, "unowned", False),
    ("nobody ever joined", {"group": Group("Dead"), "position": None}, "unowned", False),
    ("a foreign consumer holds it", {"group": STRANGERS, "position": 100}, "foreign", False),
    ("another generation's projector holds it", {"group": OURS, "generation": "read_g2"}, "foreign", False),
    ("the group may not be looked at", {"group": Group("", error="GroupAuthorizationFailedError")}, "unknown", False),
    ("assigned, and not claimed", {"position": None}, "unknown", False),
    ("it stopped, whoever holds it", {"stopped": "defect: Oops", "group": STRANGERS}, "stopped", False),
    ("its generation is paused", {"projected": False, "generation_state": "paused", "group": NOBODYS}, "paused", True),
    ("an operator holds it", {"limit": 40, "advanced": LONG}, "held", True),
    ("an operator will hold it", {"limit": 41}, "running", True),
    ("its head was trimmed beyond the checkpoint", {"position": 9}, "gone", False),
    ("the log ends before the checkpoint", {"position": 101}, "gone", False),
    ("a short transaction", {"position": 60, "readable": 60, "open_since": 0.1}, "blocked", True),
    ("a long one", {"position": 60, "readable": 60, "open_since": PATIENCE + 1}, "blocked", False),
    ("one whose age is not known", {"position": 60, "readable": 60}, "blocked", False),
    ("markers before it", {"position": 59, "readable": 60, "only_markers": True, "open_since": 99.0}, "blocked", False),
    ("records before it", {"position": 40, "readable": 60, "open_since": 99.0}, "running", True),
    ("a retried operation", {"pending": PendingOperation("the batch", 1.0, "TimeoutError")}, "waiting", True),
    ("a retried operation that takes too long", {"pending": SLOW}, "waiting", False),
    ("a claim that takes too long", {"position": None, "pending": SLOW}, "waiting", False),
    ("an operation of a partition without lag", {"position": 100, "pending": SLOW}, "idle", True),
    ("a lock in the way", {"lock": LOCK}, "waiting", False),
    ("a lock for which attempts wait anew", {"lock": BRIEF, "pending": SLOW}, "waiting", False),
    ("the same, seen from outside", {"lock": BRIEF, "advanced": 2 * LONG, "next_age": 2 * LONG}, "waiting", False),
    ("the same, of a record that has just come", {"lock": BRIEF, "advanced": 9e9, "next_age": 0.1}, "waiting", True),
    ("a lock that others wait for", {"lock": LOCK, "position": 100}, "idle", True),
]


@pytest.mark.parametrize(("fields", "state", "well"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_verdict_on(fields: dict[str, Any], state: State, well: bool) -> None:
    verdict = judge(some_facts(**fields))
    assert (verdict.state, verdict.healthy) == (state, well)
    assert verdict.healthy or verdict.reason


def test_every_state_has_its_facts() -> None:
    assert {row[2] for row in TABLE} | {Joining.state} == set(get_args(State))


def test_lag_counts_what_kafka_acknowledged() -> None:
    assert some_facts(position=60, readable=60).lag == 40
    assert some_facts(position=55, readable=60, only_markers=True).lag == 40
    assert some_facts(position=None).lag == 90


def test_what_is_said_names_who_and_what_to_do() -> None:
    assert "client 'rdkafka' at 10.0.0.2" in str(judge(some_facts(group=STRANGERS)).reason)
    taken = msgspec.structs.replace(STRANGERS, holder=None)
    assert "client 'rdkafka' at 10.0.0.2" in str(judge(some_facts(group=taken)).reason)
    assert "QueryCanceledError (57014), for 31 s" in str(judge(some_facts(pending=SLOW)).reason)
    assert "session 7 (user x, application 'psql')" in str(judge(some_facts(lock=LOCK)).reason)
    assert "offsets 5 to 9 are gone" in str(judge(some_facts(position=5)).reason)


def test_joining_is_well_for_a_while_unless_kafka_refuses() -> None:
    assert Joining(JOIN_TIMEOUT - 1).healthy
    assert not Joining(JOIN_TIMEOUT + 1).healthy
    refused = Joining(0.1, "InconsistentGroupProtocolError", ("client 'rdkafka' at 10.0.0.2",))
    assert not refused.healthy
    assert "rdkafka" in str(refused.reason)


def test_only_what_nobody_can_name_is_worth_a_fresh_process() -> None:
    def restart_helps(verdict: Verdict) -> bool:
        return verdict.restart_helps

    assert restart_helps(judge(some_facts(advanced=LONG)))
    for fields in ({"group": STRANGERS}, {"stopped": "x"}, {"position": 60, "readable": 60}, {"pending": SLOW}):
        assert not restart_helps(judge(some_facts(**fields)))
