"""The Helm chart: every values file gives resources that Kubernetes takes, with least rights and without a secret."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from brokers.rights import AUDIT, DEAD_LETTERS, EVENTS, GROUP, KEYS, least_rights
from contracts.record import AUDIT_TOPIC, CONSUMER_GROUP, DEAD_LETTER_TOPIC, TOPIC
from footfall.processes.secrets.secret_files import secret_names
from footfall.settings_page import READERS
from identity.settings import KeySettings
from tests import foreign_clients
from tests.architecture.repository import ROOT
from tests.drivers.helm import CHART, CUSTOM, HELM, KUBERNETES, VALUES, VERSIONS, Resource, helm, rendered, yaml

SETTINGS = {name.upper() for kind in READERS.values() for name in kind.model_fields} | {"ENVIRONMENT", "SECRETS_DIR"}
SECRETS = {name.upper() for kind in READERS.values() for name in secret_names(kind)}
ELSEWHERE = re.compile(rb'"(/api/)?_definitions\.json#')  # the schemas of a version refer to one file
each_file = pytest.mark.parametrize("values", VALUES, ids=[file.stem for file in VALUES])


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm lays values over those of the chart."""
    both = {name: merged(first[name], second[name]) for name in first if isinstance(second.get(name), dict)}
    return {**first, **second, **both}


@each_file
def test_the_values_are_what_the_charts_schema_says(values: Path) -> None:
    schema = msgspec.json.decode((CHART / "values.schema.json").read_bytes())
    [shipped], [laid_over] = yaml((CHART / "values.yaml").read_text()), yaml(values.read_text())
    errors = list(jsonschema_rs.validator_for(schema).iter_errors(merged(shipped, laid_over)))
    assert not errors, [(str(error.message), error.instance_path) for error in errors]


def test_the_charts_schema_refuses_a_secret_among_the_settings_and_unknown_names() -> None:
    valid = jsonschema_rs.validator_for(msgspec.json.decode((CHART / "values.schema.json").read_bytes())).is_valid
    assert valid({"environment": {"LOG_LEVEL": "INFO"}})
    assert not valid({"replicas": 3})
    for name in SECRETS:
        assert not valid({"commandSide": {"environment": {name: "x"}}}), name


def test_the_chart_is_of_this_release() -> None:
    [chart] = yaml((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
    assert len(VALUES) == 6


@each_file
def test_helm_finds_nothing_to_say(values: Path) -> None:
    foreign_clients.needed("helm")
    told = helm("lint", "--strict", "--values", str(values), str(CHART), *KUBERNETES)
    assert "0 chart(s) failed" in told, told


@each_file
def test_kubernetes_takes_every_resource(values: Path) -> None:
    found = rendered(values)
    assert {each["kind"] for each in found if schema_of(VERSIONS[1], each) is None} <= CUSTOM
    for version in VERSIONS if values.stem == "production" else VERSIONS[1:]:
        for each in found:
            found_schema = schema_of(version, each)
            errors = [] if found_schema is None else [str(error) for error in found_schema.iter_errors(each)]
            assert not errors, (version, each["kind"], each["metadata"]["name"], errors)


def test_the_schemas_see_a_field_that_kubernetes_does_not_know() -> None:
    found = next(each for each in rendered(VALUES[0]) if each["kind"] == "StatefulSet")
    broken = msgspec.json.decode(msgspec.json.encode(found))
    assert schema_of(VERSIONS[1], broken).is_valid(broken)
    broken["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert not schema_of(VERSIONS[1], broken).is_valid(broken)


@each_file
def test_every_pod_may_do_the_least_and_holds_no_secret(values: Path) -> None:
    for pod in pods(values):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        [container] = spec["containers"]
        allowed = container["securityContext"]
        assert (allowed["readOnlyRootFilesystem"], allowed["allowPrivilegeEscalation"]) == (True, False)
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert container.get("lifecycle") in (None, {"preStop": {"sleep": {"seconds": 5}}}), (
            "none of 0: new clusters only"
        )
        told = {variable["name"] for variable in container["env"]}
        assert told <= SETTINGS, told - SETTINGS
        assert not told & SECRETS
        assert {"name": "SECRETS_DIR", "value": "/run/secrets/footfall"} in container["env"]
        mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounted["secrets"]["readOnly"] is True
        assert len([volume for volume in spec["volumes"] if volume["name"] == "secrets"]) == 1


def test_processes_reach_what_they_need_and_projectors_keep_their_names() -> None:
    found = {(each["kind"], each["metadata"]["name"]): each for each in rendered(HELM / "values" / "production.yaml")}
    reaches = {
        name: {port["port"] for rule in each["spec"]["egress"] for port in rule["ports"]}
        for (kind, name), each in found.items()
        if kind == "NetworkPolicy"
    }
    assert reaches == {
        "it-command-side": {53, 9093},
        "it-query-side": {53, 5432, 9093},  # the register of keys
        "it-projector": {53, 5432, 9093},
        "it-migrate": {53, 5432},
        "it-topics": {53, 9093},
    }
    [container] = found["StatefulSet", "it-projector"]["spec"]["template"]["spec"]["containers"]
    named = {variable["name"]: variable.get("valueFrom") for variable in container["env"]}
    assert named["KAFKA_GROUP_INSTANCE_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert found["StatefulSet", "it-projector"]["spec"]["replicas"] == 3
    for side in ("it-command-side", "it-query-side"):
        assert "replicas" not in found["Deployment", side]["spec"], "the autoscaler decides"
        assert {("HorizontalPodAutoscaler", side), ("PodDisruptionBudget", side)} <= found.keys()
    sealed = rendered(HELM / "values" / "sealed.yaml")
    [policy] = [
        each for each in sealed if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", "it-command-side")
    ]
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {53, 9093, 5432}


def test_keda_scales_projectors_by_the_lag_of_their_group() -> None:
    found = rendered(HELM / "values" / "autoscaled.yaml")
    [scaled] = [each["spec"] for each in found if each["kind"] == "ScaledObject"]
    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "it-projector"}
    [trigger] = scaled["triggers"]
    assert trigger["metadata"]["consumerGroup"] == "user-activity-consumer-group"
    assert trigger["metadata"]["lagThreshold"] == "20000"


def test_each_sink_is_a_stateful_set_that_reaches_its_engine_too() -> None:
    found = {
        (each["kind"], each["metadata"]["name"]): each["spec"] for each in rendered(HELM / "values" / "autoscaled.yaml")
    }
    for name, arguments, replicas in (("search", ["sink", "opensearch"], 2), ("file", ["sink", "duckdb"], 1)):
        sink = found["StatefulSet", f"it-sink-{name}"]
        [container] = sink["template"]["spec"]["containers"]
        told = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert (container["args"], sink["replicas"], told["SINK_NAME"]) == (arguments, replicas, name)
        assert told.get("SINK_DUCKDB_FILE") == {"file": "/data/events.duckdb"}.get(name)
        assert [each["metadata"]["name"] for each in sink.get("volumeClaimTemplates", [])] == ["data"] * (
            name == "file"
        )
        reaches = {
            port["port"] for rule in found["NetworkPolicy", f"it-sink-{name}"]["egress"] for port in rule["ports"]
        }
        assert reaches == {53, 443, 5432, 9093, 9200}


def test_the_charts_schema_refuses_a_sink_that_would_have_no_disk_or_two_writers() -> None:
    valid = jsonschema_rs.validator_for(msgspec.json.decode((CHART / "values.schema.json").read_bytes())).is_valid
    file = {"name": "file", "engine": "duckdb", "secretName": "s", "storage": {"size": "1Gi"}}
    assert valid({"sinks": [file]})
    assert not valid({"sinks": [{**file, "replicas": 2}]})
    assert not valid({"sinks": [{name: value for name, value in file.items() if name != "storage"}]})


PARTS = {
    "footfall-command-side": ("command side", "every process with AUTH=keys"),
    "footfall-query-side": ("every process with AUTH=keys",),
    "footfall-projector": ("projector", "every process with AUTH=keys"),
    "footfall-topics": ("`topics create`",),
    "footfall-operator": ("`keys`",),
}


def test_the_users_of_the_example_for_strimzi_have_the_least_rights() -> None:
    names = {EVENTS: TOPIC, DEAD_LETTERS: DEAD_LETTER_TOPIC, AUDIT: AUDIT_TOPIC, GROUP: CONSUMER_GROUP}
    names[KEYS] = KeySettings.model_fields[KEYS.lower()].default
    documents = yaml((HELM / "examples" / "strimzi.yaml").read_text())
    users = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "KafkaUser"}
    assert users.keys() == PARTS.keys()
    for user, parts in PARTS.items():
        given = {
            (re.sub(r"(?<!^)(?=[A-Z])", "_", operation).upper(), acl["resource"]["type"], acl["resource"]["name"])
            for acl in users[user]["authorization"]["acls"]
            for operation in acl["operations"]
        }
        needed = {
            (right.operation, right.resource, right.name) for part in parts for right in least_rights(part, names)
        }
        assert given == needed, user


def pods(values: Path) -> Iterator[Resource]:
    found = [each["spec"]["template"] for each in rendered(values) if "template" in each["spec"]]
    assert len(found) >= 4
    yield from found


@cache
def schema(version: str, name: str) -> dict[str, Any] | None:
    """One file of a version; the others that it refers to are in `_definitions`."""
    file = f"kubernetes_validate/kubernetes-json-schema/{version}-local-strict/{name}.json"
    with foreign_clients.kubernetes_schemas() as packed:
        if file not in packed.namelist():
            return None
        found: dict[str, Any] = msgspec.json.decode(ELSEWHERE.sub(b'"#', packed.read(file)))
        return found


@cache
def validator(version: str, named: str) -> Any:
    """The validator of a kind; None: Kubernetes has no schema of it."""
    found, definitions = schema(version, named), schema(version, "_definitions")
    return None if found is None else jsonschema_rs.validator_for({**(definitions or {}), **found})


def schema_of(version: str, resource: Resource) -> Any:
    """The validator of a resource; None: Kubernetes has no schema of its kind."""
    group, _, api = resource["apiVersion"].rpartition("/")
    return validator(version, "-".join(filter(None, (resource["kind"].lower(), group.split(".")[0], api))))
