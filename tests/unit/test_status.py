"""What status says of the facts, without a server."""

from typing import Any, cast

from contracts.record import key_of
from operations.misplaced_records import count_misplaced
from operations.status.report import GenerationStatus, PartitionStatus, partition_status, problems, progress
from projector.consuming.placement import partition_of
from projector.liveness.projecting import Facts, judge
from tests.drivers.partition_facts import some_facts


def shown(facts: Facts) -> PartitionStatus:
    return partition_status(0, facts, judge(facts), "host:1")


def test_lag_is_what_is_left_and_its_age_that_of_the_next_record() -> None:
    found = shown(some_facts(position=40, next_age=2.5))
    assert (found.lag, found.lag_seconds) == (60, 2.5)
    assert shown(some_facts(position=None)).lag == 90
    unknown = shown(some_facts(position=40))
    assert (unknown.lag, unknown.lag_seconds) == (60, None)
    only_markers = shown(some_facts(position=99, only_markers=True))
    assert (only_markers.lag, only_markers.lag_seconds, only_markers.state) == (0, 0.0, "idle")


def test_progress_is_a_share_of_what_the_log_holds() -> None:
    assert progress([some_facts(position=55), some_facts(position=100)]) == 0.75
    assert progress([some_facts(position=10, beginning=10, readable=10, end=10)]) == 1.0
    assert progress([]) is None


def test_a_build_may_lag_and_be_nobodys_but_not_stop() -> None:
    def sentences(state: str) -> list[str]:
        partition = PartitionStatus(0, "unowned", None, 5, 100, 95, 1.0, "nobody", well=False)
        stopped = PartitionStatus(1, "stopped", None, 5, 100, 95, 1.0, "defect: Oops", well=False)
        return problems(GenerationStatus("read_g2", state, 0.5, [partition, stopped]), 10)

    assert sentences("building") == ["read_g2, partition 1 has stopped: defect: Oops."]
    assert len(sentences("active")) == 4


class SilentLog:
    """A log that does not answer in time."""

    async def first_records(self, _wanted: object, _patience: float) -> object:
        raise TimeoutError


class Rows:
    """Two events of one user, of whom one is where its user's events belong in a plain log."""

    async def fetch(self, *_: object) -> list[dict[str, object]]:
        place = partition_of(key_of("default", "alice"), 6)
        user = {"tenant_id": "default", "user_id": "alice", "kafka_offset": 1}
        return [{**user, "kafka_partition": partition} for partition in (place, (place + 1) % 6)]


async def test_an_event_of_which_the_log_did_not_tell_is_none_that_was_checked() -> None:
    found = await count_misplaced(cast("Any", Rows()), cast("Any", SilentLog()), "events", range(6))
    assert (found.latest, found.misplaced) == (1, 0)
