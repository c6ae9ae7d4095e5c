"""The two files that a stranger and CI start from: the Makefile and .ci/run."""

import os
import re
import subprocess

from tests.architecture.repository import ROOT
from tests.patience import PATIENCE


def test_make_help_lists_every_command() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE)
    listed = re.findall(r"^  make (\w+) +\S", result.stdout, re.MULTILINE)
    assert listed == ["help", "demo", "up", "test", "check", "docs", "bench", "chaos", "containers", "clean"]


def test_ci_runs_what_the_readme_promises() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = re.findall(r"^(make \w+)(?: SEED=\d+)?$", script.read_text(), re.MULTILINE)
    assert commands == ["make check", "make chaos", "make containers", "make test"]
    assert "make UV= demo" in script.read_text()
