"""The chart's resources of KEDA and the Gateway API, and the example of CloudNativePG, against their definitions."""

from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests import foreign_clients
from tests.drivers.helm import CUSTOM, HELM, VALUES, Resource, rendered, yaml


def strict(schema: Any) -> Any:
    """A definition's schema that refuses unknown fields; an API server drops them, and what they were meant to do."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.fixture(scope="module")
def definitions() -> dict[tuple[str, str], Any]:
    """By apiVersion and kind, the validator."""
    foreign_clients.needed("custom resources")
    found = {}
    for file in foreign_clients.custom_resources():
        for each in yaml(file.read_text()):
            spec = each.get("spec", {})
            for version in spec.get("versions", ()):
                api = f"{spec['group']}/{version['name']}"
                schema = strict(version["schema"]["openAPIV3Schema"])
                found[api, spec["names"]["kind"]] = jsonschema_rs.validator_for(schema)
    return found


def customs() -> list[Resource]:
    return [each for values in VALUES for each in rendered(values) if each["kind"] in CUSTOM]


def test_keda_and_the_gateway_api_take_their_resources(definitions: dict[tuple[str, str], Any]) -> None:
    found = customs()
    assert {each["kind"] for each in found} == CUSTOM
    for each in found:
        errors = [str(error) for error in definitions[each["apiVersion"], each["kind"]].iter_errors(each)]
        assert not errors, (each["kind"], errors)


def test_the_definitions_see_a_field_that_they_do_not_know(definitions: dict[tuple[str, str], Any]) -> None:
    for each in customs():
        broken = msgspec.json.decode(msgspec.json.encode(each))
        broken["spec"]["maxReplicas"] = 3
        assert not definitions[each["apiVersion"], each["kind"]].is_valid(broken)


def test_cloudnativepg_takes_its_example(definitions: dict[tuple[str, str], Any]) -> None:
    examples = yaml((HELM / "examples" / "cloudnative-pg.yaml").read_text())
    assert [each["kind"] for each in examples] == ["Cluster"]
    for each in examples:
        errors = [str(error) for error in definitions[each["apiVersion"], each["kind"]].iter_errors(each)]
        assert not errors, errors
