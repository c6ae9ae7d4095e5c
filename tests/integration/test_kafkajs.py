"""kafkajs, the Kafka client of the original service: it reads our records, and its events are stored."""

import json

import httpx

from tests.conftest import Footfall
from tests.foreign_clients import INSTALLED, SOURCES, needed, output
from tests.patience import patient
from tests.producing import metric, start_projector, wait_until_processed

EVENTS = 50


def test_kafkajs_reads_our_records_and_its_own_become_rows(footfall: Footfall) -> None:
    needed("node")
    command_side = footfall.start("command-side")
    projector = start_projector(footfall)
    posted = httpx.post(
        f"{command_side.url}/events/generate", json={"userId": "user-1", "eventType": "PRODUCT_VIEW"}, timeout=60
    ).json()["event"]
    entry = str(INSTALLED / "node_modules" / "kafkajs" / "index.js")
    program = str(SOURCES / "kafkajs.mjs")
    said = output("node", program, entry, footfall.servers.kafka, footfall.topic, str(EVENTS), within=patient(60))
    records = [json.loads(line) for line in said.splitlines()]
    assert len(records) == EVENTS + 1
    ours = next(record for record in records if record["key"] == "user-1")
    assert ours["event"] == posted
    assert {"event-type", "event-id", "request-id"} <= ours["headers"].keys()
    assert ours["headers"]["event-id"] == posted["eventId"]
    wait_until_processed(footfall, EVENTS + 1, 60)
    assert metric(projector, "records_misplaced_total") == 0  # its default partitioner is Java's
