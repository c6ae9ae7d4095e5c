"""Partitions added to a topic that is projected: noticed within seconds, and read from their beginning."""

from collections.abc import Callable

from tests.conftest import Footfall
from tests.processes import wait_until
from tests.producing import (
    an_event,
    assert_exactly_once,
    checkpoints,
    logged,
    produce,
    record_of,
    rows,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)
from tests.topics import add_partitions


def test_a_new_partition_begins_at_its_beginning_although_the_first_start_was_from_latest(
    new_footfall: Callable[..., Footfall],
) -> None:
    footfall = new_footfall(partitions=2)
    try:
        produce(footfall, [record_of(an_event("before"), n % 2) for n in range(6)])
        projector = start_projector(footfall, START_FROM="latest")
        wait_until_owning(projector, 2)
        produce(footfall, [record_of(an_event("known"), n % 2) for n in range(4)])
        wait_until_processed(footfall, 4)
        add_partitions(footfall, 4)
        came = [an_event(f"meanwhile-{n}") for n in range(20)]  # nobody has claimed their partitions yet
        produce(footfall, [record_of(event, 2 + n % 2) for n, event in enumerate(came)])
        wait_until_processed(footfall, 24, within=60)
        assert {row["event_id"] for row in rows(footfall)} >= {event.event_id for event in came}
        wait_until_owning(projector, 4)
        assert {p: row["next_offset"] for p, row in checkpoints(footfall).items()} == {0: 5, 1: 5, 2: 10, 3: 10}
        (said,) = logged(projector, "partitions_added")
        assert (said["partitions"], said["positions"]) == ([2, 3], {"0": 5, "1": 5}), (
            "the order may break from there on"
        )
    finally:
        footfall.close()


def test_two_projectors_share_the_partitions_that_were_added(new_footfall: Callable[..., Footfall]) -> None:
    footfall = new_footfall(partitions=1)
    try:
        one, other = start_projector(footfall), start_projector(footfall)
        produce(footfall, [record_of(an_event("u")) for _ in range(5)])
        wait_until_processed(footfall, 5)
        add_partitions(footfall, 4)
        produce(footfall, [record_of(an_event(f"u-{n}"), n % 4) for n in range(20)])
        wait_until_processed(footfall, 25, within=60)
        for projector in (one, other):
            wait_until_owning(projector, 2)
        wait_until(lambda: len(checkpoints(footfall)) == 4, 30, "a checkpoint for each partition")
        assert_exactly_once(footfall)
    finally:
        footfall.close()
