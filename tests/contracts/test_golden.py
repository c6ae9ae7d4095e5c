"""Bytes of each event version ever written. Kafka keeps them for ever, so they must decode for ever.

Each file in `golden/<version>/` has `value` (the record's value, as text), `event` (what it decodes to, its timestamp
in UTC) and `canonical` (the bytes that Footfall wrote for it when the file was added). Add files; never change one.
Only the width of a time has changed since: `..00Z` is written `..00.000000Z` now (decision 10).
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contracts.erasure import UserErasure, encode_erasure, erasure_of
from contracts.event import DEFAULT_TENANT, UserEvent
from contracts.record import from_value
from contracts.validation.rules import Problems
from contracts.versions import encode_event

GOLDEN = Path(__file__).parent / "golden"
NARROW_TIME = re.compile(r'("timestamp":"[0-9T:-]{19})Z')
FILES = sorted(GOLDEN.glob("v*/*.json"))
MARKERS = sorted(GOLDEN.glob("erasure/*.json"))


def stated(event: dict[str, Any]) -> UserEvent:
    return UserEvent(
        event_id=UUID(event["eventId"]),
        user_id=event["userId"],
        event_type=event["eventType"],
        timestamp=datetime.fromisoformat(event["timestamp"]),
        payload=event["payload"],
        tenant_id=event.get("tenantId", DEFAULT_TENANT),
    )


def test_the_golden_files_are_there() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_bytes_decode_to_the_stated_event_and_encode_to_the_stated_bytes(path: Path) -> None:
    golden = json.loads(path.read_text())
    event = from_value(golden["value"].encode())
    assert event == stated(golden["event"])
    assert isinstance(event, UserEvent)
    assert event.timestamp.utcoffset() == datetime.fromisoformat(golden["event"]["timestamp"]).utcoffset()
    written = encode_event(event)
    assert written == NARROW_TIME.sub(r"\1.000000Z", golden["canonical"], count=1).encode()
    assert from_value(written) == from_value(golden["canonical"].encode()) == event


@pytest.mark.parametrize("path", MARKERS, ids=lambda path: path.stem)
def test_golden_bytes_of_an_erasure_decode_and_encode_to_the_same_bytes(path: Path) -> None:
    value = json.loads(path.read_text())["value"].encode()
    erasure = erasure_of(value)
    assert isinstance(erasure, UserErasure)
    assert (erasure.tenant_id, erasure.user_id) == ("default", 'alice/"\u00e4" 1')
    assert encode_erasure(erasure) == value


def test_no_event_is_an_erasure_and_no_erasure_an_event() -> None:
    for path in FILES:
        assert erasure_of(json.loads(path.read_text())["value"].encode()) is None
    for path in MARKERS:
        found = from_value(json.loads(path.read_text())["value"].encode())
        assert isinstance(found, Problems)
        assert found.newer_version == "2.1"  # a release that knows no markers parks it until it is upgraded
    assert erasure_of(None) is None
    assert erasure_of(b'{"version":"2.1","recordKind":"erasure",}') is None
