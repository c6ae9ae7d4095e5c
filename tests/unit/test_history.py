"""Whether a log is the history that a checkpoint counts in: what is proved, what is disproved, what cannot be known."""

from uuid import uuid4

import pytest

from contracts.versions import encode_event
from projector.consuming.topic_metadata import TopicMetadata, topic_metadata
from projector.generations.history import PartitionLog, Same, Unproven, compare
from projector.liveness.stops import Stop, StopCause
from projector.writing.checkpoints import StoredCheckpoint
from projector.writing.fingerprint import fingerprint
from tests.drivers.records import Record
from tests.producing import an_event

ONE, OTHER = uuid4(), uuid4()
EVENT = an_event()
LAST = Record(0, 9, encode_event(EVENT), timestamp=5, key=b"u")
ANOTHER = Record(0, 9, encode_event(an_event()), timestamp=5, key=b"u")
PRINT = fingerprint(LAST)


@pytest.mark.parametrize(
    ("stored", "log", "expected"),
    [
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(ONE, 0, 25, LAST), Same()),
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(OTHER, 0, 25, LAST), StopCause.ANOTHER_HISTORY),
        (StoredCheckpoint(0, 1, "", ONE), PartitionLog(OTHER, 0, 0), StopCause.ANOTHER_HISTORY),
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(OTHER, 0, 3), StopCause.ANOTHER_HISTORY),
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(ONE, 0, 25, ANOTHER), StopCause.HISTORY_CUT),
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(ONE, 0, 9), StopCause.HISTORY_CUT),
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(ONE, 11, 25), StopCause.HISTORY_TRIMMED),
        (StoredCheckpoint(10, 1, "", ONE, PRINT), PartitionLog(ONE, 10, 25), Same()),  # trimmed up to the checkpoint
        (StoredCheckpoint(10, 1, "", ONE, None), PartitionLog(ONE, 0, 25), Same()),
        # Brokers that give no ids: the record tells.
        (StoredCheckpoint(10, 1, "", None, PRINT), PartitionLog(None, 0, 25, LAST), Same()),
        (StoredCheckpoint(10, 1, "", None, PRINT), PartitionLog(None, 0, 25, ANOTHER), StopCause.ANOTHER_HISTORY),
        (StoredCheckpoint(10, 1, "", None, PRINT), PartitionLog(None, 10, 25), Unproven()),
        (StoredCheckpoint(10, 1, "", None, PRINT), PartitionLog(None, 0, 3), StopCause.HISTORY_CUT),
        (StoredCheckpoint(0, 1, ""), PartitionLog(None, 0, 25), Same()),
        # A checkpoint of an older version: the last event below it tells.
        (StoredCheckpoint(10, 1, "", None, None, 9, EVENT.event_id), PartitionLog(ONE, 0, 25, LAST), Same()),
        (
            StoredCheckpoint(10, 1, "", None, None, 9, EVENT.event_id),
            PartitionLog(ONE, 0, 25, ANOTHER),
            StopCause.ANOTHER_HISTORY,
        ),
        (StoredCheckpoint(10, 1, "", None, None, 9, EVENT.event_id), PartitionLog(ONE, 0, 25), Unproven()),
    ],
)
def test_a_log_is_the_checkpoints_own_or_the_partition_stops(
    stored: StoredCheckpoint, log: PartitionLog, expected: Same | Unproven | StopCause
) -> None:
    found = compare(stored, log)
    assert (found.cause if isinstance(found, Stop) else found) == expected


def test_a_fingerprint_tells_records_apart_by_time_key_and_value() -> None:
    others = [
        Record(0, 9, LAST.value, timestamp=6, key=b"u"),
        Record(0, 9, LAST.value, timestamp=5, key=None),
        Record(0, 9, None, timestamp=5, key=b"u"),
        Record(0, 9, b"x" + (LAST.value or b""), timestamp=5, key=b""),
        Record(0, 9, LAST.value, timestamp=5, key=b"ux"),
    ]
    assert len({fingerprint(record) for record in [LAST, *others]}) == 6
    assert all(-(2**63) <= fingerprint(record) < 2**63 for record in others)
    assert fingerprint(Record(3, 77, LAST.value, timestamp=5, key=b"u")) == PRINT  # wherever it stands


class OldBroker:
    """Knows Metadata up to version 9: ids came with 10."""

    def get_random_node(self) -> int:
        return 1

    async def send(self, _node: int, request: object) -> object:
        return request.prepare({3: (0, 9)})  # type: ignore[attr-defined]  # raises as aiokafka's connection does


async def test_a_broker_older_than_topic_ids_is_asked_for_nothing_more() -> None:
    assert await topic_metadata(OldBroker(), "t") == TopicMetadata()
