"""The topic no longer holds what the checkpoint needs: it is named, and an operator may go on without it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Footfall
from tests.drivers.commands import owners_command, status_here
from tests.processes import wait_until
from tests.producing import (
    an_event,
    checkpoints,
    delete_before,
    produce,
    record_of,
    sql,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds


def journalled(footfall: Footfall, action: str) -> list[dict[str, Any]]:
    found = sql(footfall.servers, f"SELECT detail FROM ops.journal WHERE action = '{action}' ORDER BY id")
    return [json.loads(row["detail"]) for row in found]


def trim(footfall: Footfall, partition: int, before: int) -> None:
    asyncio.run(delete_before(footfall.servers.kafka, footfall.topic, partition, before))


def stopped_of(footfall: Footfall, partition: int) -> str | None:
    reason: str | None = checkpoints(footfall)[partition]["stopped_reason"]
    return reason


@pytest.mark.timeout(300)
def test_a_gap_is_named_accepted_journalled_and_the_partition_goes_on_without_a_restart(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    wait_until_owning(projector, 6)
    produce(footfall, [record_of(an_event(), partition) for partition in (0, 0, 1)])
    wait_until_processed(footfall, 3)
    assert projector.terminate() == 0
    produce(footfall, [record_of(an_event(), 0) for _ in range(20)])
    trim(footfall, 0, 12)
    projector = start_projector_that_stops(footfall)
    reason = stopped_of(footfall, 0)
    assert reason is not None
    assert reason.startswith("history_trimmed: ")
    assert "footfall gaps accept" in reason

    listed = owners_command(footfall, "gaps", "list", "--json")
    assert listed.returncode == 1
    (gap,) = json.loads(listed.stdout)
    assert (gap["generation"], gap["partition"], gap["first"], gap["last"]) == ("read_g1", 0, 2, 11)
    assert gap["after"] <= gap["before"]
    declined = owners_command(footfall, "gaps", "accept", answer="n\n")
    assert (declined.returncode, stopped_of(footfall, 0)) == (1, reason)
    assert "offsets 2 to 11, at most 10 records, made after" in declined.stdout
    accepted = owners_command(footfall, "gaps", "accept", answer="y\n")
    assert accepted.returncode == 0, accepted.stderr
    wait_until_processed(footfall, 3 + 10, PATIENCE)
    assert projector.popen.poll() is None
    (entry,) = journalled(footfall, "gaps accept")
    assert (entry["partition"], entry["first"], entry["last"], entry["records"]) == (0, 2, 11, 10)
    assert owners_command(footfall, "gaps", "list").returncode == 0


def start_projector_that_stops(footfall: Footfall) -> Any:
    projector = footfall.start("projector", ready=False)
    wait_until(lambda: stopped_of(footfall, 0) is not None, PATIENCE, "the stop to be written down")
    return projector


@pytest.mark.timeout(300)
def test_a_rebuild_of_a_trimmed_topic_begins_where_it_begins_once_that_is_accepted(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    wait_until_owning(projector, 6)
    produce(footfall, [record_of(an_event(), partition) for partition in range(6) for _ in range(5)])
    wait_until_processed(footfall, 30)
    trim(footfall, 4, 3)
    refused = owners_command(footfall, "rebuild", "start")
    assert refused.returncode == 1
    assert "offsets 0 to 2 of partition 4" in refused.stderr
    assert "footfall rebuild start --accept-missing" in refused.stderr
    started = owners_command(footfall, "rebuild", "start", "--accept-missing")
    assert started.returncode == 0, started.stderr
    count = "SELECT count(*) AS n FROM read_g2.processed_events"
    wait_until(lambda: sql(footfall.servers, count)[0]["n"] == 27, PATIENCE, "what is left to be built")
    assert journalled(footfall, "rebuild start")[0]["missing"] == {"4": 3}
    assert owners_command(footfall, "rebuild", "promote", "--force").returncode == 0
    wait_until(lambda: status_here(footfall, "--max-lag", "0").returncode == 0, PATIENCE, "all to be well")
