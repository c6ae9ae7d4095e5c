"""`footfall sink` as a test runs it, and what the log says that a sink must have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from contracts.event import UserEvent
from contracts.record import from_value
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import read_topic, sql

# One that is killed and comes again has its place in the group at once.
SOON = {
    "KAFKA_SESSION_TIMEOUT_MS": "6000",
    "KAFKA_HEARTBEAT_INTERVAL_MS": "300",
    "KAFKA_GROUP_INSTANCE_ID": "sink",
}


def start_sink(
    footfall: Footfall, kind: str, settings: Mapping[str, str], *, at: str = "", ready: bool = True
) -> Process:
    """A sink. `at`: where it kills itself (projector/failpoints.py)."""
    return footfall.start(
        f"sink {kind}", ready=ready, **SOON, **({"FOOTFALL_FAILPOINTS": at} if at else {}), **settings
    )


def killed_sink(footfall: Footfall, kind: str, at: str, settings: Mapping[str, str]) -> None:
    """Runs a sink until it kills itself there."""
    process = start_sink(footfall, kind, settings, at=f"{at}=kill", ready=False)
    assert process.popen.wait(PATIENCE) == -9, process.log_text()[-3000:]


def positions(footfall: Footfall, schema: str) -> dict[int, int]:
    """The sink's checkpoints."""
    if not sql(footfall.servers, f"SELECT to_regnamespace('{schema}') AS found")[0]["found"]:
        return {}
    return {
        row["partition"]: row["next_offset"] for row in sql(footfall.servers, f"SELECT * FROM {schema}.checkpoints")
    }


def wait_for_sink(footfall: Footfall, schema: str) -> None:
    """Until the sink has passed every record of the topic."""
    ends: dict[int, int] = {}
    for record in read_topic(footfall):
        ends[record.partition] = max(ends.get(record.partition, 0), record.offset + 1)
    wait_until(
        lambda: all(positions(footfall, schema).get(p, 0) >= end for p, end in ends.items()), 30, f"{schema} to be done"
    )


def events_of_topic(footfall: Footfall) -> dict[tuple[str, str], UserEvent]:
    """The first record of each valid event, by tenant and id, read without the sink's code."""
    found: dict[tuple[str, str], UserEvent] = {}
    for record in sorted(read_topic(footfall), key=lambda one: (one.partition, one.offset)):
        event = from_value(record.value)
        if isinstance(event, UserEvent):
            found.setdefault((event.tenant_id, str(event.event_id)), event)
    return found


EventsById = dict[tuple[str, str], tuple[Any, ...]]


def told(footfall: Footfall) -> EventsById:
    """What a sink must have: of each event who, what, when, and with what."""
    return {
        name: (event.user_id, event.event_type, event.timestamp.replace(tzinfo=None), event.payload)
        for name, event in events_of_topic(footfall).items()
    }


def told_by_duckdb(file: Path) -> EventsById:
    """What a DuckDB file has. Fails if it has an event twice."""
    with duckdb.connect(str(file), read_only=True) as connection:
        rows = connection.execute(
            "SELECT tenant_id, event_id::VARCHAR, user_id, event_type, occurred_at, payload FROM events"
        ).fetchall()
    found = {(row[0], row[1]): (row[2], row[3], row[4], json.loads(row[5])) for row in rows}
    assert len(found) == len(rows)
    return found
