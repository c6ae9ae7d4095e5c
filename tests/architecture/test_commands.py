"""The two files that a stranger and CI start from: the Makefile and .ci/run."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from ruamel.yaml import YAML

from tests.architecture.repository import ROOT
from tests.patience import PATIENCE

ASKS_OTHERS = "from tests.foreign_clients import"
ELSEWHERE = {  # a job of its own, or nothing that is installed
    "tests/architecture/test_commands.py",
    "tests/integration/test_kafka_connect.py",
    "tests/integration/test_query_openapi.py",
}


def test_make_help_lists_every_command() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE)
    listed = re.findall(r"^  make (\w+) +\S", result.stdout, re.MULTILINE)
    assert listed == [
        "help",
        "demo",
        "up",
        "test",
        "check",
        "docs",
        "bench",
        "chaos",
        "containers",
        "screenshots",
        "sbom",
        "advisories",
        "digests",
        "clean",
    ]


def test_ci_runs_what_the_readme_promises() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = re.findall(r"^(make \w+)(?: SEED=\d+)?$", script.read_text(), re.MULTILINE)
    assert commands == ["make check", "make chaos", "make containers", "make test"]
    assert "make UV= demo" in script.read_text()


def test_the_workflow_runs_the_same_commands_on_every_system_and_python_that_is_supported() -> None:
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [found[1] for line in project["classifiers"] if (found := re.fullmatch(r".* Python :: (3\.\d+)", line))]
    for name in ("check", "test", "demo"):
        job = workflow["jobs"][name]
        assert job["strategy"]["matrix"] == {"os": ["ubuntu-latest", "macos-latest"], "python": versions}
        assert job["steps"][-1] == {"run": f"make {name} PYTHON=python"}


def test_whoever_runs_everything_installs_clients_and_tools_of_other_people_first() -> None:
    installs = ROOT / ".ci" / "packages"
    assert os.access(installs, os.X_OK)
    script = (ROOT / ".ci" / "run").read_text()
    assert script.index("\n.ci/packages\n") < script.index("\nmake check\n")
    job = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["foreign"]
    assert [step["run"].split()[:2] for step in job["steps"] if "run" in step] == [
        ["sudo", ".ci/packages"],
        ["make", "test"],
        ["sudo", "env"],
    ]
    modules = set(job["env"]["MODULES"].split())
    asking = {
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if ASKS_OTHERS in path.read_text()
    }
    assert modules >= asking - ELSEWHERE
    assert all((ROOT / each).exists() for each in modules)


def test_pre_commit_runs_only_what_make_check_runs() -> None:
    hooks = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    checked = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    entries = [hook["entry"].removeprefix(".venv/bin/").split(" --")[0] for hook in hooks]
    assert entries
    assert [entry for entry in entries if f"$(BIN)/{entry}" not in checked] == []


def test_a_path_without_a_scope_fails_the_check() -> None:
    checked = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    [chosen] = re.findall(r"pytest .* tests/integration/test_access\.py -k \"(.*)\"", checked)
    text = (ROOT / "tests" / "integration" / "test_access.py").read_text()
    named = [name for name in re.findall(r"def (test_\w+)", text) if any(part in name for part in chosen.split(" or "))]
    assert named == ["test_every_path_of_every_process_is_declared", "test_nothing_is_declared_that_is_not_there"]


def test_a_commit_with_a_long_subject_is_refused() -> None:
    [subject] = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"][1]["hooks"]
    assert (subject["language"], subject["stages"], subject["args"]) == ("pygrep", ["commit-msg"], ["--multiline"])
    refuses = re.compile(subject["entry"], re.MULTILINE).search
    body = "\n\n" + "x" * 120
    assert refuses("x" * 73 + body)
    assert not refuses("x" * 72 + body)


def test_where_podman_is_absent_the_containers_command_says_so_and_why(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "chaos.containers"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "Containers cannot be run here." in run.stderr
    assert "Not installed: podman" in run.stderr.replace("\n", " ")
