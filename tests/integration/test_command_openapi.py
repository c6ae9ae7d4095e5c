"""The command side does what its OpenAPI document says, and the documents say what the code says."""

import html
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from command_side.api.documents import ASYNCAPI, OPENAPI
from command_side.api.openapi import document
from command_side.api.openapi.shapes import EXAMPLE_BATCH
from contracts.asyncapi import FILE as TOPICS_FILE
from contracts.asyncapi import document as topics_document
from contracts.asyncapi import rendered as rendered_topics
from contracts.event import UserEvent
from contracts.published import SCHEMAS, published_schemas
from contracts.validation.rules import validate_complete_user_event
from projector.dead_letters.topic import diagnosis_headers
from tests.conftest import Footfall
from tests.docs_pages import assert_docs_show
from tests.openapi_examples import schemas_with_examples
from tests.patience import PATIENCE
from tests.processes import Process
from tests.schemathesis_runs import LONG, RUN_WITHIN, SEEDS, cases_without_deviation
from tests.shipped_types import SHIPPED
from tests.topic_reader import records_of

DOCUMENT = document.document(SHIPPED)
TOPICS = topics_document()
COMMAND = {"userId": "u", "eventType": "LOGIN"}


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side")


@pytest.mark.timeout(RUN_WITHIN + 60)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_answer_deviates_from_the_document(side: Process, tmp_path: Path, seed: int) -> None:
    """FOOTFALL_LONG=1: five seeds, over 20,000 cases together."""
    examples = 2_500 if LONG else 40
    url = side.url + OPENAPI
    cases = cases_without_deviation(url, "schemathesis_commands.toml", seed, examples, cwd=tmp_path)
    assert cases >= (4_000 if LONG else 100)
    assert "unforeseen_error" not in side.log_text()


def served() -> dict[str, Path]:
    files = {f"/schema/events/{name}": SCHEMAS / name for name in published_schemas()}
    return {OPENAPI: document.FILE, ASYNCAPI: TOPICS_FILE, **files}


def test_each_document_is_served_as_its_file_has_it(side: Process) -> None:
    paths = served()
    assert len(paths) >= 5
    for path, file in paths.items():
        answer = httpx.get(side.url + path, timeout=PATIENCE)
        assert (answer.status_code, answer.content) == (200, file.read_bytes()), path
        assert answer.headers["content-type"].startswith("application/")
        assert httpx.head(side.url + path).status_code == 200
        refused = httpx.post(side.url + path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert httpx.get(f"{side.url}/schema/events/user-event-99.json").status_code == 404


def test_the_page_shows_commands_and_how_a_batch_is_sent_in_lines(side: Process) -> None:
    assert_docs_show(side.url, {OPENAPI: DOCUMENT})
    text = html.unescape(httpx.get(f"{side.url}/docs").text)
    sent = text.partition("<code>application/x-ndjson</code></p><pre>")[2].partition("</pre>")[0]
    assert [json.loads(line) for line in sent.splitlines()] == EXAMPLE_BATCH


def test_what_is_recorded_is_what_the_served_schema_says(side: Process) -> None:
    schema = httpx.get(f"{side.url}/schema/events/user-event-1.json").json()
    event = httpx.post(f"{side.url}/events/generate", json=COMMAND).json()["event"]
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(event)


def test_every_example_is_an_example() -> None:
    found = list(schemas_with_examples(DOCUMENT))
    assert len(found) >= 25
    for schema, example in found:
        jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(example)


def test_every_answer_with_json_has_an_example() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                assert all("example" in content for content in response["content"].values()), (path, status)


# --- the topic -------------------------------------------------------------------------------------------------------


def topic_schema(name: str) -> jsonschema_rs.Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": TOPICS["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def test_every_reference_of_the_topics_document_leads_somewhere() -> None:
    text = rendered_topics(SHIPPED).decode()
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', text))
    assert len(references) >= 6
    for reference in references:
        node: Any = TOPICS
        for step in reference.split("/"):
            node = node[step]


def test_records_in_kafka_are_as_the_document_says(side: Process, shared_footfall: Footfall) -> None:
    keyed = {"Idempotency-Key": "asyncapi-1", "X-Request-ID": "trace-7"}
    assert httpx.post(f"{side.url}/events/generate", json=COMMAND, headers=keyed).status_code == 201
    assert httpx.post(f"{side.url}/events/generate", json=COMMAND).status_code == 201
    records = records_of(shared_footfall.servers.kafka, shared_footfall.topic)
    assert len(records) >= 2
    for record in records[-50:]:
        headers = {name: value.decode() for name, value in record.headers}
        if "record-kind" in headers:
            topic_schema("ErasureHeaders").validate(headers)
            topic_schema("UserErasure").validate(json.loads(record.value or b""))
            continue
        topic_schema("EventHeaders").validate(headers)
        assert set(headers) <= set(TOPICS["components"]["schemas"]["EventHeaders"]["properties"])
        event = validate_complete_user_event(record.value)
        assert isinstance(event, UserEvent)
        topic_schema("UserEventV1").validate(json.loads(record.value))
    assert any(name == "command-fingerprint" for record in records for name, _ in record.headers)


def test_the_examples_of_the_topic_are_events() -> None:
    for message in ("userEventV1", "userEventV2"):
        [example] = TOPICS["components"]["messages"][message]["examples"]
        event = validate_complete_user_event(json.dumps(example["payload"]).encode())
        assert isinstance(event, UserEvent)
        topic_schema("EventHeaders").validate(example["headers"])


def test_the_diagnosis_is_the_one_that_the_projector_writes() -> None:
    class Row(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return datetime.now(UTC) if name.endswith("_at") else "1"

    names = [name for name, _ in diagnosis_headers(Row())]  # type: ignore[arg-type]
    assert names == TOPICS["components"]["schemas"]["DeadLetterHeaders"]["required"]
