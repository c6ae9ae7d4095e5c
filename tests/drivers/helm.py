"""The Helm chart as helm renders it."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests import foreign_clients
from tests.architecture.repository import ROOT
from tests.patience import PATIENCE

HELM = ROOT / "deploy" / "helm"
CHART = HELM / "footfall"
VALUES = sorted((HELM / "values").glob("*.yaml"))
VERSIONS = ("v1.30.0", "v1.37.0")  # the oldest that the chart allows, and the newest
KUBERNETES = ("--kube-version", VERSIONS[1].removeprefix("v"))
CUSTOM = {"ScaledObject", "HTTPRoute"}  # of KEDA and the Gateway API: Kubernetes has no schema of them
Resource = dict[str, Any]


def yaml(text: str) -> list[Any]:
    return [document for document in YAML(typ="safe").load_all(text) if document]


def helm(*arguments: str) -> str:
    program = foreign_clients.helm()
    assert program is not None
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def rendered(values: Path) -> list[Resource]:
    """The resources that the chart makes with these values, as release `it`."""
    foreign_clients.needed("helm")
    return yaml(helm("template", "it", str(CHART), "--values", str(values), *KUBERNETES))
