"""The query side does what its OpenAPI document says, and the document says what is known elsewhere too."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import jsonschema_rs
import pytest
from playwright.sync_api import sync_playwright

from contracts.published import published_schemas
from query_side.openapi import document
from tests.conftest import Footfall
from tests.docs_pages import assert_docs_show
from tests.foreign_clients import needed
from tests.openapi_examples import schemas_with_examples
from tests.patience import PATIENCE, patient
from tests.processes import Process
from tests.producing import an_event, produce, record_of, start_projector, wait_until_processed
from tests.schemathesis_runs import LONG, RUN_WITHIN, SEEDS, cases_without_deviation
from tests.shipped_types import SHIPPED

DOCUMENT = document.document(SHIPPED)


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    kinds = ("LOGIN", "PRODUCT_VIEW", "LOGOUT")
    events = [an_event(f"user-{n % 3 or 123}", {"productId": "p-42"}, event_type=kinds[n % 7 % 3]) for n in range(200)]
    projector = start_projector(shared_footfall)
    produce(shared_footfall, [record_of(one, 0) for one in events])
    wait_until_processed(shared_footfall, len(events))
    projector.terminate()
    return shared_footfall.start("query-side")


@pytest.mark.timeout(RUN_WITHIN + 60)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_answer_deviates_from_the_document(side: Process, tmp_path: Path, seed: int) -> None:
    """FOOTFALL_LONG=1: five seeds, over 20,000 cases together."""
    cases = cases_without_deviation(
        f"{side.url}/openapi/query-side.json",
        "schemathesis_queries.toml",
        seed,
        400 if LONG else 10,
        "--exclude-path=/events/stream",  # it never ends
        "--header=Prefer: wait=0",  # positions are made up: nobody waits for them
        cwd=tmp_path,
    )
    assert cases >= (4_000 if LONG else 400)
    assert not re.search("unforeseen_error|read_model_unavailable", side.log_text())


def test_the_document_is_served_as_its_file_has_it(side: Process) -> None:
    answer = httpx.get(f"{side.url}/openapi/query-side.json", timeout=PATIENCE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == document.FILE.read_bytes()
    assert answer.json()["openapi"].startswith("3.1.")


def test_the_page_shows_every_path_and_loads_nothing(side: Process) -> None:
    assert_docs_show(side.url, {"/openapi/query-side.json": DOCUMENT})


def test_a_browser_shows_every_operation_under_the_policy_of_the_page(side: Process, tmp_path: Path) -> None:
    needed("chromium")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=30000")
    command = ["chromium", *flags, f"--user-data-dir={tmp_path}", "--dump-dom", f"{side.url}/docs"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=patient(90), check=True)
    shown = re.findall(r'data-path="([^"]+)"', run.stdout)
    assert {path.replace("\u200b", "") for path in shown} == set(DOCUMENT["paths"]), (
        run.stdout[:2000] + run.stderr[-2000:]
    )
    assert not re.search("Content Security Policy|Refused to|Uncaught", run.stderr), run.stderr


def test_try_it_sends_a_request_under_the_policy_of_the_page(side: Process) -> None:
    needed("chromium")
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(patient(30) * 1000)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.goto(f"{side.url}/docs")
        operation = page.locator(".opblock", has=page.locator('[data-path="/products/top"]'))
        operation.locator(".opblock-summary-control").click()
        with page.expect_response(lambda response: "/products/top" in response.url) as answered:
            operation.locator("button.execute").click()
        assert answered.value.status == 200
        shown = operation.locator(".live-responses-table")
        assert shown.locator("tr.response .response-col_status").inner_text().startswith("200")
        assert answered.value.json()["from"] in shown.inner_text()
        browser.close()
    assert not [text for text in said if re.match("error|warning", text) or "Content Security Policy" in text]


def test_each_path_takes_the_parameters_that_the_document_declares(side: Process) -> None:
    """Hot paths are declared beside what answers them: here it shows that both say the same."""
    for path, operations in DOCUMENT["paths"].items():
        names = [one["name"] for one in operations["get"]["parameters"] if one["in"] == "query"]
        url = path.replace("{id}", "u").replace("{eventId}", "01980000-0000-7000-8000-000000000000")
        [told, *_] = httpx.get(f"{side.url}{url}?unknown=1", timeout=PATIENCE).json()["errors"]
        takes = told.removeprefix("Unknown parameter `unknown`; this path takes ").removesuffix(".")
        assert set(takes.split(", ")) == set(names) - {"position"} or (takes, names) == ("none", ["position"]), path


def test_an_event_is_what_the_contract_publishes() -> None:
    published = published_schemas()["user-event-1.json"]["$defs"]["UserEventV1"]
    ours = DOCUMENT["components"]["schemas"]["Event"]
    assert set(ours["required"]) == set(published["properties"])  # an answer always has the payload
    assert ours["additionalProperties"] is published["additionalProperties"] is False
    for name, schema in published["properties"].items():
        told = {key: ours["properties"][name].get(key) for key in ("type", "format", "enum", "maxLength", "minLength")}
        wanted = {key: schema.get(key) for key in told}
        if "enum" in schema:  # generators of clients want the type said, which the published schema leaves open
            wanted["type"] = "string"
        assert told == wanted, name


def test_every_example_is_an_example() -> None:
    found = list(schemas_with_examples(json.loads(document.rendered(SHIPPED))))
    assert len(found) >= 40
    for schema, example in found:
        jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(example)


def test_every_json_answer_has_an_example() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    assert media_type != "application/json" or "example" in content, (path, status)
