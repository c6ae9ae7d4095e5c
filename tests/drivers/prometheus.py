"""Debian's Prometheus with the rules that Footfall ships, in front of the processes of a test."""

import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from footfall.local.embedded import spawn_child
from tests.architecture.repository import ROOT
from tests.foreign_clients import needed
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

OBSERVABILITY = ROOT / "deploy" / "observability"
RULES = ("alerts.yml", "recording.yml")


def shipped_rules(name: str) -> list[dict[str, Any]]:
    """The rules in a file of `RULES`."""
    groups = YAML(typ="safe").load(OBSERVABILITY / "rules" / name)["groups"]
    return [rule for group in groups for rule in group["rules"]]


class Prometheus:
    """A Prometheus that scrapes every second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=PATIENCE).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its state, as Prometheus last evaluated it."""
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=PATIENCE).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def raised(self) -> set[str]:
        """The alerts whose expression holds now, whether they have held for long enough or not."""
        return {
            rule["name"]
            for rule in self.rules()
            if rule["type"] == "alerting" and any(each["state"] != "inactive" for each in rule["alerts"])
        }


@contextmanager
def prometheus(home: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Runs it for the body. `targets`: by job, the URL of a process."""
    needed("prometheus")
    (home / "rules").mkdir(parents=True)
    for name in RULES:
        (home / "rules" / name).write_bytes((OBSERVABILITY / "rules" / name).read_bytes())
    YAML().dump(configured(targets), home / "prometheus.yml")
    port = free_port()
    popen = spawn_child(
        [
            str(shutil.which("prometheus")),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        death_signal=signal.SIGKILL,
        log_path=home / "prometheus.log",
    )
    found = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: popen.poll() is not None or is_ready(found), 20, "Prometheus")
        assert popen.poll() is None, (home / "prometheus.log").read_text()[-3000:]
        yield found
    finally:
        popen.kill()
        popen.wait(PATIENCE)


def is_ready(found: Prometheus) -> bool:
    try:
        return httpx.get(f"{found.url}/-/ready", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def configured(targets: Mapping[str, str]) -> dict[str, Any]:
    """The shipped configuration, with these addresses, and a second where it says a quarter of a minute."""
    shipped: dict[str, Any] = YAML(typ="safe").load(OBSERVABILITY / "prometheus.yml")
    assert {job["job_name"] for job in shipped["scrape_configs"]} >= targets.keys()
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
        for name, url in targets.items()
    ]
    return {
        **shipped,
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": jobs,
    }


def selectors(expression: str, names: set[str]) -> set[str]:
    """The vector selectors in an expression, each a name with its label matchers."""
    found = re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?", re.sub(r'(?<![=~!{,])"[^"]*"', "", expression))
    return {f"{name}{labels}" for name, labels in found if name in names}
