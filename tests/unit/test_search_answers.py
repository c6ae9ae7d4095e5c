"""What Elasticsearch and OpenSearch answer to a bulk: each item is read, and a record is blamed last."""

import json

import pytest

from projector.writing.failure import Failure, OutsideError, kind_of
from sinks.targets.search.answers import CONFLICT, checked, sound_items
from sinks.targets.search.templates import stream_of, template
from tests.architecture.repository import ROOT

CREATED, THERE = {"status": 201, "_index": "i"}, {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
MALFORMED = {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed on 'Jane Doe'"}}


def bulk(*items: object) -> bytes:
    return json.dumps({"errors": True, "items": [{"create": item} for item in items]}).encode()


def error_of(*items: object) -> OutsideError:
    with pytest.raises(OutsideError) as raised:
        sound_items(bulk(*items), len(items))
    return raised.value


def test_what_is_there_already_is_no_failure() -> None:
    assert [item.status for item in sound_items(bulk(CREATED, THERE, CREATED), 3)] == [201, CONFLICT, 201]


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "mapper_parsing_exception", Failure.SUSPECT),
        (400, "document_parsing_exception", Failure.SUSPECT),
        (400, "something_new", Failure.SERVER),
        (403, "cluster_block_exception", Failure.SERVER),
        (404, "index_not_found_exception", Failure.SERVER),
        (413, "", Failure.TOO_MUCH),
        (429, "es_rejected_execution_exception", Failure.TRANSIENT),
        (503, "unavailable_shards_exception", Failure.TRANSIENT),
    ],
)
def test_an_item_has_the_kind_of_its_status(status: int, name: str, kind: Failure) -> None:
    assert kind_of(error_of(CREATED, {"status": status, "error": {"type": name}})) is kind


def test_a_server_that_fails_some_is_waited_for_before_any_document_is_blamed() -> None:
    error = error_of(MALFORMED, CREATED, {"status": 429, "error": {"type": "es_rejected_execution_exception"}}, THERE)
    assert kind_of(error) is Failure.TRANSIENT


def test_no_error_quotes_a_document() -> None:
    assert str(error_of(MALFORMED)) == "The server refuses the document: 400 mapper_parsing_exception"
    with pytest.raises(OutsideError, match=r"^The server refuses: 401 security_exception$"):
        checked(401, b'{"error":{"type":"security_exception","reason":"no user Jane"},"status":401}')


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"{}", b'{"items":[]}', bulk(CREATED), b'{"items":[{"create":{}}]}']
)
def test_an_answer_that_is_none_of_these_documents_blames_none_of_them(answer: bytes) -> None:
    with pytest.raises(OutsideError) as raised:
        sound_items(answer, 2)
    assert kind_of(raised.value) is Failure.TRANSIENT


def test_no_two_tenants_have_one_stream() -> None:
    tenants = ["default", "Acme", "acme", "a.b", "A", "a", "default.x", "DEFAULT", "-x", "_x"]
    assert len({stream_of(tenant) for tenant in tenants}) == len(tenants)
    assert all(stream_of(tenant).startswith("footfall-events") and stream_of(tenant).islower() for tenant in tenants)


def test_the_saved_dashboard_names_only_fields_and_objects_that_there_are() -> None:
    lines = (ROOT / "deploy" / "sinks" / "dashboard.ndjson").read_text().splitlines()
    objects = {(one["type"], one["id"]): one for one in map(json.loads, lines)}
    fields = template("flattened", "")["template"]["mappings"]["properties"]
    for one in objects.values():
        assert all((reference["type"], reference["id"]) in objects for reference in one["references"])
        state = json.loads(one["attributes"].get("visState", "{}"))
        named = [each["params"]["field"] for each in state.get("aggs", ()) if each["type"] != "count"]
        assert all(fields[name]["type"] in {"keyword", "date"} for name in named)
    panels = json.loads(objects["dashboard", "footfall"]["attributes"]["panelsJSON"])
    names = {reference["name"] for reference in objects["dashboard", "footfall"]["references"]}
    assert {panel["panelRefName"] for panel in panels} == names
    assert len(panels) == 4
