"""The container files: valid, healthy, restarting, without a secret, and routing each path to its side."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings
from ruamel.yaml import YAML

from command_side.settings import CommandSettings
from footfall.local.embedded.kafka.jars import KAFKA_VERSION
from footfall.local.embedded.postgres.roles import Passwords, roles_sql
from identity.settings import IdentitySettings
from operations.doctor.role_limits import LIMITS
from projector.settings import ProjectorSettings
from query_side.settings import QuerySettings
from sinks.settings import SinkSettings
from tests.architecture.repository import ROOMS, ROOT
from tests.patience import PATIENCE
from web.transport.settings import TlsSettings

COMPOSE = ROOT / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(COMPOSE)["services"]
JOBS = {"migrate", "topics"}
LOOKING_ON = {name for name, service in SERVICES.items() if "observability" in service.get("profiles", ())}
PROCESSES = SERVICES.keys() - JOBS
OURS = {name for name, service in SERVICES.items() if service["image"] == "footfall:local"}


def test_compose_file_follows_the_specification() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    command = [str(check), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_with_keys_every_process_asks_for_them_and_can_read_their_register() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    command = [str(check), "--builtin-schema", "vendor.compose-spec", str(ROOT / "deploy" / "keys.yaml")]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    keyed = YAML(typ="safe").load(ROOT / "deploy" / "keys.yaml")["services"]
    assert {name for name in OURS if "command" in SERVICES[name]} - {"migrate"} == keyed.keys()
    for name, service in keyed.items():
        assert service["environment"]["AUTH"] == "keys"
        networks = service.get("networks", SERVICES[name]["networks"])
        assert set(networks) & set(SERVICES["kafka"]["networks"]), "the register is a topic"


def test_tls_at_the_front_adds_a_port_and_leaves_the_plain_one_on_this_machine() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    command = [str(check), "--builtin-schema", "vendor.compose-spec", str(ROOT / "deploy" / "tls.yaml")]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    added = YAML(typ="safe").load(ROOT / "deploy" / "tls.yaml")["services"]
    assert added.keys() == {"nginx"}
    [port] = added["nginx"]["ports"]
    assert port.endswith(":3443")
    assert "listen 3443 ssl;" in (ROOT / "deploy" / "nginx-tls.conf").read_text()
    assert all(volume.endswith(":ro") for volume in added["nginx"]["volumes"])
    assert SERVICES["nginx"]["ports"] == ["${PUBLIC_ADDRESS:-127.0.0.1}:${PUBLIC_PORT:-3000}:3000"]


def test_compose_file_has_the_whole_service() -> None:
    expected = {"kafka", "postgres", "migrate", "topics", "command-side", "projector", "query-side", "nginx"}
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == expected
    assert SERVICES["projector"]["deploy"]["replicas"] == 2
    assert SERVICES["postgres"]["image"].startswith("postgres:18")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}", "one version of Kafka everywhere"
    assert {name for name, service in SERVICES.items() if "ports" in service} - LOOKING_ON == {"nginx", "console"}
    assert SERVICES["console"]["ports"] == ["127.0.0.1:${CONSOLE_PORT:-3004}:3004"], "operators only, on this machine"


def test_who_looks_on_does_so_when_asked_from_this_machine_and_over_a_network_of_its_own() -> None:
    assert {"prometheus", "grafana"} == LOOKING_ON
    for name in LOOKING_ON:
        assert SERVICES[name]["profiles"] == ["observability"]
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
        assert set(SERVICES[name]["networks"]) == {"public", "metrics"}
    scraped = (ROOT / "deploy" / "observability" / "prometheus.yml").read_text()
    for name, port in re.findall(r"names: \[([\w-]+)\], type: A, port: (\d+)", scraped):
        environment = SERVICES[name]["environment"]
        assert port == str(environment.get("PORT") or environment["PROJECTOR_PORT"])
        assert "metrics" in SERVICES[name]["networks"]


def test_the_profile_cluster_makes_three_brokers_of_one() -> None:
    lines = (ROOT / "deploy" / "cluster.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    profiled = {name for name, service in SERVICES.items() if "profiles" in service}
    assert profiled - LOOKING_ON == {"kafka-2", "kafka-3", "console", "sink"}
    assert given["COMPOSE_PROFILES"] == "cluster"
    brokers = {name: service for name, service in SERVICES.items() if name.startswith("kafka")}
    ids = {name: service["environment"]["KAFKA_NODE_ID"] for name, service in brokers.items()}
    assert given["KAFKA_VOTERS"] == ",".join(f"{number}@{name}:9093" for name, number in ids.items())
    assert given["KAFKA_BOOTSTRAP_SERVERS"] == ",".join(f"{name}:9092" for name in brokers)
    for name, broker in brokers.items():
        assert broker["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
    assert len({volume for broker in brokers.values() for volume in broker["volumes"]}) == 3, "a disk for each"
    asked = set(re.findall(r"\$\{([A-Z_]+):-", COMPOSE.read_text()))
    assert given.keys() - {"COMPOSE_PROFILES"} <= asked


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_process_has_a_healthcheck_and_restarts(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_job_ends_and_is_waited_for(name: str) -> None:
    assert SERVICES[name]["restart"].startswith("on-failure")
    waiting = [
        service["depends_on"][name]["condition"]
        for service in SERVICES.values()
        if name in service.get("depends_on", {})
    ]
    assert waiting
    assert set(waiting) == {"service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(OURS | LOOKING_ON | {"nginx"}))
def test_what_faces_clients_or_runs_our_code_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()


def test_each_service_reaches_only_what_it_needs() -> None:
    reach = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert not reach["command-side"] & reach["postgres"]
    assert not reach["query-side"] & reach["kafka"]
    assert not reach["nginx"] & (reach["postgres"] | reach["kafka"])
    networks = YAML(typ="safe").load(COMPOSE)["networks"]
    assert [name for name, network in networks.items() if not network.get("internal")] == ["public"]


def test_no_secret_is_written_down() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|PEPPER", key):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), f"{key} is written down, or may be empty"
    credentials = re.findall(r"://[^:/@\s]+:([^@\s]+)@", COMPOSE.read_text())
    assert credentials
    assert all(re.fullmatch(r"\$\{[A-Z_]+\}", credential) for credential in credentials)


def test_each_process_has_a_role_of_its_own() -> None:
    roles = {
        name: re.findall(r"://(\w+):", service["environment"]["DATABASE_URL"])[0]
        for name, service in SERVICES.items()
        if "DATABASE_URL" in service.get("environment", {})
    }
    reader = "footfall_query"  # of the console, too: what operators do there is done as the owner, by another setting
    writer = "footfall_projector"  # of the sink, too: it has what a projector has, under a schema of its own
    writers = {"migrate": "footfall", "projector": writer, "sink": writer}
    assert roles == {**writers, "query-side": reader, "console": reader}
    created = (ROOT / "deploy" / "postgres" / "10-roles.sh").read_text()
    assert all(re.search(rf"CREATE ROLE {role}\s+LOGIN", created) for role in roles.values())
    assert "ALTER ROLE footfall_query SET default_transaction_read_only = on;" in created


def test_the_query_sides_role_is_bounded_alike_wherever_it_is_made() -> None:
    """The projector's is not: its transactions may rest while a sink writes, and what was cut off comes again."""
    wanted = {"default_transaction_read_only": "on", **LIMITS}
    made_by = ("deploy/postgres/10-roles.sh", "deploy/helm/examples/cloudnative-pg.yaml")
    for text in (*((ROOT / name).read_text() for name in made_by), roles_sql(Passwords("a", "b", "c", "d"))):
        assert dict(re.findall(r"ALTER ROLE footfall_query SET (\w+) = '?(\w+)'?", text)) == wanted


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("command-side", CommandSettings),
        ("projector", ProjectorSettings),
        ("query-side", QuerySettings),
        ("sink", SinkSettings),
    ],
)
def test_a_process_is_given_only_settings_that_it_reads(name: str, settings: type[BaseSettings]) -> None:
    given = SERVICES[name]["environment"].keys() - {"ENVIRONMENT"}
    of_every_process = (IdentitySettings, TlsSettings)
    assert given <= {field.upper() for kind in (settings, *of_every_process) for field in kind.model_fields}


def test_every_password_can_be_generated() -> None:
    asked_for = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE.read_text()))
    generated = (ROOT / "deploy" / "generate-secrets").read_text()
    assert all(name in generated for name in asked_for)


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/events/generate", "command_side"),
        ("/events/generate/batch", "command_side"),
        ("/health/command", "command_side"),
        ("/health/command/ready", "command_side"),
        ("/events/generated", "query_side"),
        ("/events/processed", "query_side"),
        ("/events/0197c5b2-0000-7000-8000-000000000000", "query_side"),
        ("/users/user-1", "query_side"),
        ("/products", "query_side"),
        ("/activity", "query_side"),
        ("/docs", "query_side"),
        ("/docs/commands", "command_side"),
        ("/openapi/query-side.json", "query_side"),
        ("/openapi/command-side.json", "command_side"),
        ("/asyncapi/user-activity-events.json", "command_side"),
        ("/schema/events/user-event-1.json", "command_side"),
        ("/health", "query_side"),
        ("/health/ready", "query_side"),
        ("/health/query/live", "query_side"),
        ("/", "query_side"),
        ("/metrics", None),
        ("/health/front", None),
    ],
)
def test_nginx_routes_commands_and_queries_to_their_sides(path: str, upstream: str | None) -> None:
    assert _upstream_of(path) == upstream
    if path in ("/users/user-1", "/", "/events/processed"):
        assert _upstream_of(path, "DELETE") == "command_side"


def test_nginx_speaks_for_a_side_in_its_envelope() -> None:
    """What it says is in tests/integration/test_nginx.py, where there is an nginx."""
    shipped = (ROOT / "deploy" / "nginx.conf").read_text()
    [body] = re.findall(r"return 200 '(.*)';  # the status stays", shipped)
    assert json.loads(body) == {"success": False, "event": None, "errors": None, "error": "$footfall_error"}
    [sentences] = re.findall(r"map \$status \$footfall_error {(.*?)\n    }", shipped, re.DOTALL)
    for status in re.findall(r"\n +(\d{3}) \"", sentences):
        assert re.search(rf"error_page .*\b{status} ", shipped), status


def test_nginx_knows_the_services_by_their_names_and_ports() -> None:
    servers = dict(re.findall(r"server ([a-z-]+):(\d+) resolve", (ROOT / "deploy" / "nginx.conf").read_text()))
    assert servers == {name: str(SERVICES[name]["environment"]["PORT"]) for name in ("command-side", "query-side")}


def test_the_image_runs_as_nobody_in_particular() -> None:
    final_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0\b|root\b)\d+:\d+$", final_stage, re.MULTILINE)
    assert 'ENTRYPOINT ["footfall"]' in final_stage
    assert not re.search(r"\b(gcc|build-essential|uv|pip)\b", final_stage)


def _upstream_of(path: str, method: str = "GET") -> str | None:
    """nginx's own rule, for the kinds of location that the file uses: exact first, then the longest prefix."""
    shipped = (ROOT / "deploy" / "nginx.conf").read_text()
    locations = re.findall(
        r"^ {8}location (?:(=|\^~) )?(/\S*) \{(.*?)^ {8}\}",
        shipped,
        re.MULTILINE | re.DOTALL,
    )
    exact = [body for kind, name, body in locations if kind == "=" and name == path]
    prefixes = sorted((name, body) for kind, name, body in locations if kind != "=" and path.startswith(name))
    body = exact[0] if exact else max(prefixes, key=lambda location: len(location[0]))[1]
    found = re.search(r"proxy_pass http://(\$?\w+)", body)
    if found is not None and found[1] == "$side":
        [sides] = re.findall(r"map \$request_method \$side {(.*?)}", shipped, re.DOTALL)
        by_method = dict(re.findall(r"(\w+) (\w+);", sides))
        return by_method.get(method, by_method["default"])
    return found.group(1) if found else None


@pytest.mark.parametrize(
    ("resolv_conf", "resolver"),
    [
        ("nameserver 127.0.0.11\noptions ndots:0\n", "127.0.0.11"),
        ("search dns.podman\nnameserver 10.89.0.1\nnameserver 192.0.2.1\n", "10.89.0.1"),
        ("nameserver fd00::a\n", "[fd00::a]"),
        ("", "127.0.0.11"),
    ],
    ids=["docker", "podman", "ipv6", "none"],
)
def test_nginx_asks_the_name_server_of_its_own_network(tmp_path: Path, resolv_conf: str, resolver: str) -> None:
    (tmp_path / "resolv.conf").write_text(resolv_conf)
    script = (ROOT / "deploy" / "start-nginx").read_text()
    script = script.replace("/tmp/", f"{tmp_path}/written-").replace("/etc/resolv.conf", f"{tmp_path}/resolv.conf")
    subprocess.run(["sh", "-c", script.replace("exec nginx", "true")], check=True, timeout=PATIENCE)
    assert (tmp_path / "written-resolver.conf").read_text() == f"resolver {resolver} valid=5s ipv6=off;\n"


def test_every_room_goes_into_the_image_and_into_the_package() -> None:
    named = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert set(ROOMS) <= named
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert set(ROOMS) <= set(built)
