"""What Elasticsearch and OpenSearch answer to a bulk: each item is read, and a record is blamed last."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from projector.writing.failure import Failure, OutsideError, kind_of
from sinks.guarded import Guarded
from sinks.settings import SinkSettings
from sinks.target import Document, Gone, Target, TargetAwayError
from sinks.targets.search.cluster import SearchCluster
from sinks.targets.search.responses import CONFLICT, checked, checked_items, known_documents
from sinks.targets.search.templates import stream_of, template
from tests.architecture.repository import ROOT

CREATED, THERE = {"status": 201, "_index": "i"}, {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
MALFORMED = {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed on 'Jane Doe'"}}


def bulk(*items: object) -> bytes:
    return json.dumps({"errors": True, "items": [{"create": item} for item in items]}).encode()


def error_of(*items: object) -> OutsideError:
    with pytest.raises(OutsideError) as raised:
        checked_items(bulk(*items), len(items))
    return raised.value


def test_what_is_there_already_is_no_failure() -> None:
    assert [item.status for item in checked_items(bulk(CREATED, THERE, CREATED), 3)] == [201, CONFLICT, 201]


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
    "answer",
    [
        b"",
        b"<html>",
        b'{"items":"\xe9"}',
        b'{"items":[{"\xe9":{}}]}',
        b"{}",
        b'{"items":[]}',
        bulk(CREATED),
        b'{"items":[{"create":{}}]}',
    ],
)
def test_an_answer_that_is_none_of_these_documents_blames_none_of_them(answer: bytes) -> None:
    with pytest.raises(OutsideError) as raised:
        checked_items(answer, 2)
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


@pytest.mark.parametrize(
    "page", [b"<html>please wait</html>", b'{"error":"\xe9"}', b"", b"[]", b'{"items":', b'{"_shards":{"failed":1}}']
)
async def test_what_a_proxy_says_or_half_a_cluster_is_waited_for(page: bytes) -> None:
    """A user who is not found is not erased, and a document that is not found is written twice."""
    cluster = SearchCluster(SinkSettings(database_url=SecretStr("postgresql://")))
    cluster._client = httpx.AsyncClient(base_url="http://search", transport=httpx.MockTransport(answering(page)))
    asked = [cluster.write([DOCUMENT], {}), cluster.users("default"), cluster.erase([Gone("default", ("eve",), 0, 9)])]
    for each in asked:
        with pytest.raises(TargetAwayError):
            await each
    await cluster.close()


def answering(page: bytes) -> Callable[[httpx.Request], httpx.Response]:
    """A cluster with an older index, that answers so what it is asked then."""
    indices = [{"index_name": "1"}, {"index_name": "2"}]
    streams = json.dumps({"data_streams": [{"name": "footfall-events", "indices": indices}]}).encode()
    return lambda request: httpx.Response(200, content=streams if "_data_stream" in request.url.path else page)


DOCUMENT = Document("default", UUID(int=1), "eve", "LOGIN", datetime.now(UTC), datetime.now(UTC), b"{}", 0, 0)


@pytest.mark.parametrize("docs", [[], [{"_id": "1", "error": {"type": "no_shard_available_action_exception"}}]])
def test_a_document_of_which_nobody_knows_is_not_taken_for_missing(docs: list[object]) -> None:
    with pytest.raises(TargetAwayError):
        known_documents(json.dumps({"docs": docs}).encode(), 1)


class Broken:
    """A target that fails in its own way."""

    lanes, one_only = 1, False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def fails(*_: object) -> object:
            raise {"open": KeyError(), "write": ValueError("Jane"), "erase": RuntimeError()}.get(name, TypeError())

        return fails


async def test_an_error_of_a_target_that_nobody_foresaw_blames_no_record() -> None:
    target = Guarded(cast(Target, Broken()))
    for asked in (target.open(), target.write([], {}), target.erase([]), target.users(""), target.known_good_fails()):
        with pytest.raises(OutsideError, match=r"does not know: [A-Z][A-Za-z]+$") as raised:
            await asked
        assert kind_of(raised.value) is Failure.SERVER


# What each type may have in OpenSearch Dashboards and Kibana 7.10 (the mappings that the two declare for the index of
# saved objects, which refuses any other attribute), and the newest migration that both know: a newer one is refused.
SAVED = {
    "index-pattern": ({"title", "timeFieldName"}, (7, 6, 0)),
    "visualization": (
        {"title", "description", "version", "uiStateJSON", "visState", "kibanaSavedObjectMeta", "savedSearchRefName"},
        (7, 10, 0),
    ),
    "dashboard": (
        {"title", "description", "hits", "version", "timeRestore", "timeFrom", "timeTo", "refreshInterval"}
        | {"optionsJSON", "panelsJSON", "kibanaSavedObjectMeta"},
        (7, 9, 3),
    ),
}
COLUMNS = 48  # of a dashboard's grid


def test_the_saved_objects_have_the_shape_that_an_import_takes() -> None:
    for line in (ROOT / "deploy" / "sinks" / "dashboard.ndjson").read_text().splitlines():
        one = json.loads(line)
        attributes, newest = SAVED[one["type"]]
        assert one.keys() == {"id", "type", "attributes", "references", "migrationVersion"}
        assert one["attributes"].keys() <= attributes
        [(of, version)] = one["migrationVersion"].items()
        assert of == one["type"]
        assert tuple(map(int, version.split("."))) <= newest
        source = json.loads(one["attributes"].get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}"))
        names = {reference["name"] for reference in one["references"]}
        assert source.get("indexRefName") in names | {None}
        if one["type"] == "visualization":
            assert "indexRefName" in source, "it would ask no index"
            ids = [each["id"] for each in json.loads(one["attributes"]["visState"])["aggs"]]
            assert len(set(ids)) == len(ids)
        for panel in json.loads(one["attributes"].get("panelsJSON", "[]")):
            place = panel["gridData"]
            assert place["i"] == panel["panelIndex"]
            assert place["x"] + place["w"] <= COLUMNS
