"""What the facts about a partition mean, without a server."""

import pytest

from footfall.consumer_groups import Group
from footfall.status import Checkpoint, GenerationStatus, LogEnds, PartitionStatus, partition_status, problems
from read_model.generations import Generation

LOG = LogEnds({0: 10}, {0: 100})
OURS = Group(settled=True, members={0: "footfall-projector-host:1"})
NOBODYS = Group(settled=True, members={1: "footfall-projector-host:1"})
REBALANCING = Group(settled=False, members={})
ACTIVE = Generation("read_g1", "active")
HELD = Generation("read_g1", "active", holds={0: 50})


def at(offset: int, stopped_reason: str | None = None) -> Checkpoint:
    return Checkpoint(offset, "host:1", stopped_reason)


@pytest.mark.parametrize(
    ("generation", "checkpoint", "group", "state"),
    [
        (ACTIVE, at(100), OURS, "idle"),
        (ACTIVE, at(40), OURS, "running"),
        (ACTIVE, at(40), REBALANCING, "running"),
        (ACTIVE, at(40), NOBODYS, "unowned"),
        (ACTIVE, None, NOBODYS, "unowned"),
        (ACTIVE, None, OURS, "unknown"),
        (ACTIVE, at(40, "defect: Oops"), NOBODYS, "stopped"),
        (HELD, at(50), OURS, "held"),
        (HELD, at(49), OURS, "running"),
        (Generation("read_g2", "paused"), at(40), NOBODYS, "paused"),
        (Generation("read_g2", "standby"), at(40), OURS, "running"),
    ],
)
def test_the_state_of_a_partition(
    generation: Generation, checkpoint: Checkpoint | None, group: Group, state: str
) -> None:
    assert partition_status(generation, 0, checkpoint, LOG, group, {}).state == state


def test_lag_is_what_is_left_and_its_age_that_of_the_next_record() -> None:
    found = partition_status(ACTIVE, 0, at(40), LOG, OURS, {0: 2.5})
    assert (found.lag, found.lag_seconds) == (60, 2.5)
    assert partition_status(ACTIVE, 0, None, LOG, OURS, {}).lag == 90
    unknown = partition_status(ACTIVE, 0, at(40), LOG, OURS, {})
    assert (unknown.lag, unknown.lag_seconds) == (60, None)
    only_markers = partition_status(ACTIVE, 0, at(99), LOG, OURS, {0: None})
    assert (only_markers.lag, only_markers.lag_seconds, only_markers.state) == (0, 0.0, "idle")


@pytest.mark.parametrize("offset", [9, 101])
def test_a_checkpoint_outside_of_the_log_is_said(offset: int) -> None:
    assert partition_status(ACTIVE, 0, at(offset), LOG, OURS, {}).reason == "the log holds 10 to 100"


def test_a_build_may_lag_and_be_nobodys_but_not_stop() -> None:
    def sentences(state: str) -> list[str]:
        partition = PartitionStatus(0, "unowned", None, 5, 100, 95, 1.0)
        stopped = PartitionStatus(1, "stopped", None, 5, 100, 95, 1.0, "defect: Oops")
        return problems(GenerationStatus("read_g2", state, 0.5, [partition, stopped]), 10)

    assert sentences("building") == ["read_g2, partition 1 has stopped: defect: Oops"]
    assert len(sentences("active")) == 4
