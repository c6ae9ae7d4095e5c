"""Versions: old ones are read for ever, newer ones are recognised, published ones never change."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import published  # pyright: ignore[reportAttributeAccessIssue]  # a module, met through its package
from contracts.event import ActivityCommand, UserEvent, create_user_event
from contracts.published import differences, rendered, write_new
from contracts.record import from_value, new_record, partition_key, to_record
from contracts.validation.rules import Problems

V2: dict[str, Any] = {
    "version": "2.0",
    "eventId": "01980000-0000-7000-8000-000000000001",
    "tenantId": "acme",
    "userId": "user-1",
    "eventType": "LOGIN",
    "timestamp": "2026-01-31T12:00:00Z",
    "_metadata": {"schema_version": "2.0", "migrated_at": None},
    "payload": {},
}


def read(**changes: Any) -> UserEvent | Problems:
    return from_value(msgspec.json.encode(V2 | changes))


def test_the_default_tenants_bytes_and_keys_are_the_seeds() -> None:
    event = create_user_event(ActivityCommand("user-1", "LOGIN"), "default")
    record = to_record(event, "r")
    fields = msgspec.json.decode(record.value)
    assert list(fields) == ["eventId", "userId", "eventType", "timestamp", "payload"]
    assert record.key == b"user-1"
    assert from_value(record.value) == event


def test_another_tenants_event_is_version_2_and_comes_back_unchanged() -> None:
    event = create_user_event(ActivityCommand("user-1", "LOGIN"), tenant_id="acme")
    record = to_record(event, "r")
    assert record.key == partition_key(event) == b"acme\x1fuser-1"
    assert msgspec.json.decode(record.value)["version"] == "2.0"
    assert from_value(record.value) == event


@pytest.mark.parametrize("version", ["2.1", "3.0", "10.0"])
def test_a_newer_version_is_recognised_whatever_else_it_holds(version: str) -> None:
    found = read(version=version, somethingNew={"a": [1]})
    assert isinstance(found, Problems)
    assert found.newer_version == version


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": "1.0"}, "version"),
        ({"version": "two"}, "version"),
        ({"tenantId": ""}, "tenantId"),
        ({"tenantId": "a/b"}, "tenantId"),
        ({"tenantId": "a\n"}, "tenantId"),
        ({"tenantId": "a" * 65}, "tenantId"),
        ({"_metadata": None}, "_metadata"),
        ({"_metadata": {"schema_version": "9.9"}}, "_metadata"),
        ({"payload": []}, "payload"),
        ({"userId": ""}, "userId"),
    ],
)
def test_an_invalid_version_2_is_refused_by_the_rules_of_version_2(changes: dict[str, Any], field: str) -> None:
    found = read(**changes)
    assert isinstance(found, Problems)
    assert found.newer_version is None
    assert [sentence for sentence in found.sentences if f"`{field}`" in sentence] == found.sentences


def test_a_version_that_is_no_text_is_an_invalid_version_1() -> None:
    found = read(version=2)
    assert isinstance(found, Problems)
    assert found.newer_version is None


def test_published_schemas_say_what_the_structs_say() -> None:
    assert differences() == []


def test_a_changed_published_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_new(tmp_path)
    assert differences(tmp_path) == []
    changed = published.published_schemas()
    changed["user-event-1.json"]["$defs"]["UserEventV1"]["required"].append("payload")
    monkeypatch.setattr(published, "published_schemas", lambda: changed)
    write_new(tmp_path)
    assert [line.split()[0] for line in differences(tmp_path)] == ["user-event-1.json"]
    assert rendered(changed["user-event-1.json"]) not in [file.read_bytes() for file in tmp_path.iterdir()]


def test_the_words_of_a_published_schema_may_become_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_new(tmp_path)
    changed = published.published_schemas()
    changed["user-event-1.json"]["$defs"]["UserEventV1"]["properties"]["userId"]["description"] = "Who it was."
    monkeypatch.setattr(published, "published_schemas", lambda: changed)
    assert ["in other words" in line for line in differences(tmp_path)] == [True]
    write_new(tmp_path)
    assert differences(tmp_path) == []
    # a property may be called `title`; it is no word
    changed["user-event-1.json"]["$defs"]["UserEventV1"]["properties"]["title"] = {"type": "string"}
    write_new(tmp_path)
    assert ["never changes" in line for line in differences(tmp_path)] == [True]


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_a_new_record_is_the_record_of_its_event(tenant: str) -> None:
    command = ActivityCommand("日本-😀 \\ \"'", "PRODUCT_VIEW", {"ä": [1, None, 1.5, {"b": True}]})
    made = new_record(command, "r-1", tenant)
    event = from_value(made.value)
    assert isinstance(event, UserEvent)
    assert event.tenant_id == tenant
    assert event.event_id.version == 7
    assert abs((datetime.now(UTC) - event.timestamp).total_seconds()) < 5
    assert made == to_record(event, "r-1")
