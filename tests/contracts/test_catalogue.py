"""The catalogue of event types: what is read, what is refused, and what commands and documents make of it."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from command_side.api.openapi.document import rendered as command_document
from command_side.settings import CommandSettings
from contracts.asyncapi import rendered as topic_document
from contracts.event import ActivityCommand, UserEvent
from contracts.record import from_value
from contracts.types import AS_NAMED, CatalogueError, read_catalogue, rendered
from contracts.validation.commands import CommandRules
from contracts.validation.fast_commands import FastBatches
from contracts.validation.rules import Problems
from query_side.openapi.document import rendered as query_document
from tests.shipped_types import SHIPPED

SHOP = """
[LOGIN]
description = "A user begins a session."
means = "opens_session"

[PURCHASE]
description = "A user buys a product."
personal = ["cardHolder"]
[PURCHASE.payload_schema]
type = "object"
required = ["product", "amount"]
properties.product = { type = "string", minLength = 1 }
properties.amount = { type = "number", exclusiveMinimum = 0 }
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return written(tmp_path, SHOP)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "event_types.toml"
    file.write_text(text)
    return file


def body(event_type: object, payload: object) -> bytes:
    return json.dumps({"userId": "u", "eventType": event_type, "payload": payload}).encode()


def test_the_shipped_catalogue_says_what_the_names_say() -> None:
    assert SHIPPED.is_shipped
    assert {each.name: (each.means, each.product) for each in SHIPPED.types} == AS_NAMED
    assert SHIPPED.words() == ""


def test_the_digest_is_that_of_what_is_declared_not_of_how_it_is_written(tmp_path: Path, shop: Path) -> None:
    own = read_catalogue(shop)
    assert not own.is_shipped
    assert own.digest != SHIPPED.digest
    again = written(tmp_path, "# A comment.\n" + SHOP.replace("A user buys a product.", "Somebody buys."))
    assert read_catalogue(again).digest == own.digest
    assert read_catalogue(written(tmp_path, SHOP.replace("cardHolder", "iban"))).digest != own.digest
    copy = written(tmp_path, (Path(__file__).parents[2] / "contracts" / "event_types.toml").read_text())
    assert read_catalogue(copy) == SHIPPED


def test_a_digest_is_told_unless_all_have_the_shipped_types(shop: Path) -> None:
    own = read_catalogue(shop)
    assert own.words() == own.words([own.digest]) == f"event types {own.digest}"
    assert SHIPPED.words([own.digest]) == f"event types {SHIPPED.digest}, while projectors have {own.digest}"
    assert SHIPPED.words([SHIPPED.digest]) == ""


FIRST = '[LOGIN]\ndescription = "A user begins a session."\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("personal = " + "[" * 5_000, "not valid TOML"),
        (f"payload_schema.minProperties = 1{'0' * 5_000}", "not valid TOML"),
        ('payload_schema = {"$ref" = "http://127.0.0.1:1/x.json"}', "Retrieval is disabled"),
        ('payload_schema = {"$ref" = "file:///etc/passwd"}', "Retrieval is disabled"),
        ("payload_schema = {const = 2026-01-01}", "Unsupported type: 'date'"),
        ('payload_schema = {properties.x.type = "objekt"}', "JSON Schema: `properties.x.type`: the value is not valid"),
        ("payload_schema" + ".not" * 600 + ' = {type = "object"}', "Recursion limit reached"),
        *[
            (f"payload_schema = {{properties.x.pattern = '{slow}'}}", 'the value is not a "regex" that is matched in')
            for slow in (r"^(?=a)(a|aa)+$", r"^(a+)+\1$", r"(\w{1,100}){1,100}x", r"(a{1,60}){1,60}x", "(")
        ],
    ],
    ids=range(12),
)
def test_a_catalogue_that_would_stop_a_process_is_refused_in_words(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        read_catalogue(written(tmp_path, FIRST + text))
    assert problem in str(refused.value)


def test_no_pattern_takes_a_command_long(tmp_path: Path) -> None:
    schema = r"payload_schema = {properties.x.pattern = '^(a+)+$', properties.y.pattern = '([a-z]{1,40}){1,40}0'}"
    rules = CommandRules(read_catalogue(written(tmp_path, FIRST + schema)))
    began = time.process_time()
    problems = rules.validate(body("LOGIN", {"x": "a" * 7_000 + "!", "y": "a" * 7_000}))
    assert isinstance(problems, Problems)
    assert len(problems.sentences) == 2
    assert time.process_time() - began < 2


BAD = """
stray = 1

[purchase]
description = ""
means = "buys"
colour = "red"

[VIEW]
description = "A view."
means = "views_product"

[CART]
description = "A cart."
product = "productId"
personal = "name"
payload_schema = { type = "nonsense" }
"""


def test_every_problem_of_a_catalogue_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as refused:
        read_catalogue(written(tmp_path, BAD))
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        "[stray]",
        "[stray]",
        *["[purchase]"] * 4,
        "[VIEW]",
        *["[CART]"] * 3,
    ]
    text = str(refused.value)
    for part in (
        "`colour` is unknown",
        "`means` must be one of",
        "`description` is required",
        "is no valid JSON Schema",
    ):
        assert part in text


@pytest.mark.parametrize("text", ["", "[LOGIN", "\n".join(f'[T{n}]\ndescription = "x"' for n in range(101))])
def test_a_catalogue_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CatalogueError):
        read_catalogue(written(tmp_path, text))
    with pytest.raises(CatalogueError):
        read_catalogue(tmp_path / "missing.toml")


def test_commands_may_say_what_the_catalogue_declares(shop: Path) -> None:
    rules = CommandRules(read_catalogue(shop))
    assert isinstance(rules.validate(body("LOGIN", {})), ActivityCommand)
    found = rules.validate(body("LOGOUT", {}))
    assert found == Problems(["Field `eventType` must be one of LOGIN, PURCHASE."])


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"product": "p", "amount": 1.5}, []),
        ({"product": "p", "amount": 1, "note": ["x"]}, []),
        ({}, ['"product" is a required', '"amount" is a required']),
        ({"product": "", "amount": "secret"}, ["`payload.product`", "`payload.amount`"]),
    ],
)
def test_a_payload_schema_is_applied_to_commands_alone_and_in_batches(
    shop: Path, payload: dict[str, Any], named: list[str]
) -> None:
    rules = CommandRules(read_catalogue(shop))
    found = rules.validate(body("PURCHASE", payload))
    together = FastBatches(rules).new_records(
        b"[%b]" % body("PURCHASE", payload), "r", "default", lines=False, at_most=9
    )
    if named:
        assert isinstance(found, Problems)
        assert len(found.sentences) == len(named)
        assert all(part in " ".join(found.sentences) for part in named)
        assert "secret" not in " ".join(found.sentences)
        assert together is None
    else:
        assert isinstance(found, ActivityCommand)
        assert together is not None
        assert together[0].headers[0] == ("event-type", b"PURCHASE")


def test_a_record_is_read_whatever_its_type_and_payload() -> None:
    value = msgspec.json.encode(
        {
            "eventId": "01980000-0000-7000-8000-000000000001",
            "userId": "u",
            "eventType": "GONE_2025",
            "timestamp": "2026-01-31T12:00:00Z",
            "payload": {"amount": "none"},
        }
    )
    event = from_value(value)
    assert isinstance(event, UserEvent)
    assert event.event_type == "GONE_2025"
    assert isinstance(from_value(value.replace(b"GONE_2025", b"gone")), Problems)
    assert isinstance(from_value(value.replace(b"GONE_2025", b"G" * 65)), Problems)


def test_personal_fields_are_those_of_every_type(shop: Path) -> None:
    assert read_catalogue(shop).personal_fields == {"cardHolder"}
    assert SHIPPED.personal_fields == frozenset()


@pytest.mark.parametrize("render", [command_document, query_document, topic_document])
def test_documents_list_the_types_of_the_catalogue(shop: Path, render: Any) -> None:
    shipped, own = render(SHIPPED).decode(), render(read_catalogue(shop)).decode()
    assert '"PRODUCT_VIEW"' in shipped
    assert "PURCHASE" not in shipped
    assert '"PURCHASE"' in own
    for gone in ('"PRODUCT_VIEW"', '"LOGOUT"', "LOGIN, LOGOUT"):
        assert gone not in own


def test_the_catalogue_is_published_whole(shop: Path) -> None:
    told = json.loads(rendered(read_catalogue(shop)))
    assert [each["name"] for each in told["types"]] == ["LOGIN", "PURCHASE"]
    assert told["types"][0] == {
        "name": "LOGIN",
        "description": "A user begins a session.",
        "means": "opens_session",
    }
    assert told["types"][1]["payloadSchema"]["required"] == ["product", "amount"]


def test_an_empty_variable_means_the_shipped_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_TYPES_FILE", "")
    assert read_catalogue(CommandSettings().event_types_file) == read_catalogue()
