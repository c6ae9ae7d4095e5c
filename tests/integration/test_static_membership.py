"""A projector with a name in its group is restarted, and the others keep their partitions and go on."""

from tests.conftest import Footfall
from tests.processes import Process
from tests.producing import (
    assert_exactly_once,
    logged,
    produce,
    some_records,
    wait_until_owning,
    wait_until_processed,
)


def start(footfall: Footfall, name: str) -> Process:
    return footfall.start("projector", ready=True, KAFKA_GROUP_INSTANCE_ID=name, KAFKA_SESSION_TIMEOUT_MS="60000")


def test_a_restart_of_a_named_projector_moves_no_partition(footfall: Footfall) -> None:
    one, other = start(footfall, "one"), start(footfall, "other")
    for projector in (one, other):
        wait_until_owning(projector, 3)
    assigned = logged(other, "partitions_assigned")
    one.terminate()
    one = start(footfall, "one")
    wait_until_owning(one, 3)
    produce(footfall, some_records(300))
    wait_until_processed(footfall, 300)
    assert logged(other, "partitions_assigned") == assigned
    assert logged(one, "partitions_assigned")[0]["partitions"] not in [line["partitions"] for line in assigned[-1:]]
    assert_exactly_once(footfall)
