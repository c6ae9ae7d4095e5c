"""The query side does what its OpenAPI document says, and the document says what is known elsewhere too."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import jsonschema_rs
import pytest

from contracts.published import published_schemas
from query_side.openapi import document
from tests.conftest import Footfall
from tests.openapi_examples import schemas_with_examples
from tests.processes import Process
from tests.producing import an_event, produce, record_of, start_projector, wait_until_processed

DOCUMENT = document.document()


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    kinds = ("LOGIN", "PRODUCT_VIEW", "LOGOUT")
    events = [an_event(f"user-{n % 3 or 123}", {"productId": "p-42"}, event_type=kinds[n % 7 % 3]) for n in range(200)]
    projector = start_projector(shared_footfall)
    produce(shared_footfall, [record_of(one, 0) for one in events])
    wait_until_processed(shared_footfall, len(events))
    projector.terminate()
    return shared_footfall.start("query-side")


def test_no_answer_deviates_from_the_document(side: Process, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{side.url}/openapi/query-side.json",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=10",
        "--exclude-path=/events/stream",  # it never ends
        "--header=Prefer: wait=0",  # positions are made up: nobody waits for them
        # A cursor of the right form that nobody sealed, or `from` after `to`, is refused; a schema cannot say so.
        "--exclude-checks=positive_data_acceptance",
        "--seed=1",
        "--no-color",
    ]
    # 503 is what a position that is not reached is answered; that it has no other cause here, the log tells.
    config = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 503]\n'
    (tmp_path / "schemathesis.toml").write_text(config)
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr
    cases = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert cases is not None, run.stdout[-2000:]
    assert int(cases[1]) >= 400
    assert not re.search("unforeseen_error|read_model_unavailable", side.log_text())


def test_the_document_is_served_as_its_file_has_it(side: Process) -> None:
    answer = httpx.get(f"{side.url}/openapi/query-side.json", timeout=10)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == document.FILE.read_bytes()
    assert answer.json()["openapi"].startswith("3.1.")


def test_the_page_shows_every_path_and_loads_nothing(side: Process) -> None:
    answer = httpx.get(f"{side.url}/docs", timeout=10)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    text = answer.text
    for path in DOCUMENT["paths"]:
        assert f"<code>{path}</code></h2>" in text
    assert not re.search(r"<(script|link|img|iframe|object|embed|video|audio)\b|@import|url\(", text)
    assert not re.search(r"\b(?:href|src)=\"(?!#|/openapi/query-side\.json\")", text)


def test_an_event_is_what_the_contract_publishes() -> None:
    published = published_schemas()["user-event-1.json"]["$defs"]["UserEventV1"]
    ours = DOCUMENT["components"]["schemas"]["Event"]
    assert set(ours["required"]) == set(published["properties"])  # an answer always has the payload
    assert ours["additionalProperties"] is published["additionalProperties"] is False
    for name, schema in published["properties"].items():
        told = {key: ours["properties"][name].get(key) for key in ("type", "format", "enum", "maxLength", "minLength")}
        assert told == {key: schema.get(key) for key in told}, name


def test_every_example_is_an_example() -> None:
    found = list(schemas_with_examples(json.loads(document.rendered())))
    assert len(found) >= 40
    for schema, example in found:
        jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(example)


def test_every_json_answer_has_an_example() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    assert media_type != "application/json" or "example" in content, (path, status)
