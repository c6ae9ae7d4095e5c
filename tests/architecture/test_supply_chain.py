"""What Footfall is made of is fixed, listed, and compared with what is known of it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from footfall.local.embedded.kafka.jars import KAFKA_VERSION, read_pins
from tests.architecture.repository import ROOT
from tests.patience import PATIENCE

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def script(name: str) -> Any:
    """A program of .ci, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_locked_file_has_a_hash() -> None:
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files or "editable" in package["source"], package["name"]
        assert all(file["hash"].startswith("sha256:") for file in files), package["name"]


def test_what_builds_a_release_is_fixed_by_version_and_by_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = project["tool"]["uv"]["build-constraint-dependencies"]
    hashed = re.findall(
        r"^(\S+==\S+) \\\n    --hash=sha256:", (ROOT / "deploy/build-constraints.txt").read_text(), re.MULTILINE
    )
    assert sorted(pinned) == sorted(hashed)
    assert "hatchling" in {name.partition("==")[0] for name in pinned}
    assert "--build-constraint deploy/build-constraints.txt --require-hashes" in (ROOT / "RELEASING.md").read_text()


def test_compose_and_the_embedded_stack_run_one_version_of_kafka() -> None:
    compose = YAML(typ="safe").load(ROOT / "compose.yaml")
    assert compose["services"]["kafka"]["image"].partition("@")[0] == f"apache/kafka:{KAFKA_VERSION}"
    ours = [pin for pin in read_pins() if pin.group == "org.apache.kafka"]
    assert {pin.version for pin in ours} == {KAFKA_VERSION}


def test_every_action_is_pinned_by_commit() -> None:
    text = "".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_when_a_part_is_mended_is_written_down_and_each_week_something_asks() -> None:
    promise = (ROOT / "SECURITY.md").read_text().partition("**When a part is mended.**")[2]
    rows = re.findall(r"^\| (critical|high|medium)[^|]* \| (\d+) days \|", promise, re.MULTILINE)
    assert {kind: int(days) for kind, days in rows} == {"critical": 7, "high": 30, "medium": 90}
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    assert [each["cron"].split()[2:] for each in workflow["on"]["schedule"]] == [["*", "*", "1"]]
    job = workflow["jobs"]["advisories"]
    assert "if" not in job
    assert "continue-on-error" not in job
    assert any("make advisories ARGS=--online" in step.get("run", "") for step in job["steps"])
    assert "make advisories ARGS=--online" in (ROOT / "RELEASING.md").read_text()


def test_each_jar_is_in_the_sbom_with_its_hash() -> None:
    sbom = script("sbom")
    found = [sbom.component_of(pin) for pin in read_pins()]
    assert len({each["purl"] for each in found}) == len(found)
    assert all(len(each["hashes"][0]["content"]) == 64 for each in found)


def test_the_sbom_has_every_extra_that_a_release_or_the_image_installs() -> None:
    installed = set(re.findall(r"--extra (\w+)", (ROOT / "Dockerfile").read_text() + (ROOT / "Makefile").read_text()))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    assert installed <= set(script("sbom").EXTRAS) <= extras


def test_the_list_of_licences_names_one_for_each_component() -> None:
    sbom = script("sbom")
    packages = [
        {"name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
        for name, version in script("advisories").locked().items()
        if sbom.licence_of_package(name) != "not installed here"
    ]
    document = {"components": [*packages, *(sbom.component_of(pin) for pin in read_pins())]}
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", sbom.licences(document), re.MULTILINE)[2:]
    assert len(rows) == len(document["components"]) > 100
    assert {row[0] for row in rows if row[2] == sbom.NOT_STATED} <= {"axe-playwright-python"}, "which only a test uses"


@pytest.mark.parametrize(
    ("version", "affected"),
    [("0.9", False), ("1.0", True), ("1.4.9", True), ("1.5", False), ("2.0", True), ("2.1", True), ("2.2", False)],
)
def test_a_version_is_affected_as_the_ranges_say(version: str, affected: bool) -> None:
    ranges = [[{"introduced": "1.0"}, {"fixed": "1.5"}], [{"introduced": "2.0"}, {"last_affected": "2.1"}]]
    assert script("advisories").is_affected(version, {"ranges": ranges, "versions": []}) is affected


def test_no_locked_version_has_an_advisory_in_the_snapshot() -> None:
    assert script("advisories").offline() == []


def test_a_locked_version_with_an_advisory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    advisories = script("advisories")
    monkeypatch.setattr(advisories, "locked", lambda: {"jinja2": "2.11.2"})
    assert "jinja2 2.11.2: PYSEC-2021-66" in advisories.offline()


@contextmanager
def osv(vulnerable: str) -> Iterator[str]:
    """An osv.dev that knows one advisory."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
            results = [{"vulns": [{"id": "X-1"}]} if vulnerable in one["package"]["purl"] else {} for one in asked]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"results": results}).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it overrides
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_jar_with_an_advisory_is_named_by_the_online_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advisories = script("advisories")
    (tmp_path / "build").mkdir()
    components = [{"purl": "pkg:pypi/jinja2@3"}, {"purl": "pkg:maven/org.xerial.snappy/snappy-java@1"}, {"name": "x"}]
    (tmp_path / "build" / "sbom.cdx.json").write_text(json.dumps({"components": components}))
    monkeypatch.setattr(advisories, "ROOT", tmp_path)
    with osv("snappy") as url:
        assert advisories.online(url) == ["pkg:maven/org.xerial.snappy/snappy-java@1: X-1"]
    with osv("nothing") as url:
        assert advisories.online(url) == []


def test_images_are_pinned_by_the_digests_that_a_registry_tells(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("compose.yaml", "Dockerfile", "deploy/pin-images"):
        shutil.copy(ROOT / name, tmp_path / name)
    fake = tmp_path / "bin" / "skopeo"
    fake.write_text(f"#!/bin/sh\necho {DIGEST}\n")
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for _ in range(2):  # the second time it replaces what it wrote
        subprocess.run([tmp_path / "deploy" / "pin-images"], env=environment, check=True, timeout=PATIENCE)
        compose = YAML(typ="safe").load(tmp_path / "compose.yaml")
        images = {service["image"] for service in compose["services"].values()} - {"footfall:local"}
        assert len(images) == 5
        assert all(image.endswith(f"@{DIGEST}") for image in images)
        bases = re.findall(r"^FROM (\S+)( AS \w+)?$", (tmp_path / "Dockerfile").read_text(), re.MULTILINE)
        assert bases == [(f"python:3.13-slim@{DIGEST}", " AS builder"), (f"python:3.13-slim@{DIGEST}", "")]
    checking = [tmp_path / "deploy" / "pin-images", "--check"]
    assert run_script(checking, environment) == (0, "")
    fake.write_text(f"#!/bin/sh\necho {DIGEST[:-1]}0\n")
    code, told = run_script(checking, environment)
    assert code == 1
    assert told.count(f"is pinned to {DIGEST}, and the registry has {DIGEST[:-1]}0") == 6
    fake.write_text("#!/bin/sh\necho none\n")
    assert run_script(checking[:1], environment)[0] == 1


def run_script(command: list[Any], environment: dict[str, str]) -> tuple[int, str]:
    """Its exit code, and what it says on standard error."""
    done = subprocess.run(command, env=environment, check=False, timeout=PATIENCE, capture_output=True, text=True)
    return done.returncode, done.stderr
