"""Debian's Prometheus with the rules that Footfall ships, in front of the processes of a test."""

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """A Prometheus that scrapes every second what `aim` names."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self._home = url, home
        self._aims: dict[str, list[dict[str, Any]]] = {}

    def aim(self, targets: Mapping[str, Iterable[str]]) -> None:
        """Scrapes these from now on. `targets`: by job, the URLs of its processes."""
        for job, urls in targets.items():
            split = [url.partition("://") for url in urls]
            aims = [{"targets": [where], "labels": {"__scheme__": scheme}} for scheme, _, where in split]
            if aims != self._aims.get(job):
                self._aims[job] = aims
                (written := self._home / f"{job}.written").write_text(json.dumps(aims))
                written.rename(self._home / f"{job}.json")

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

    def firing(self) -> set[str]:
        """The alerts that somebody is told of now."""
        return {rule["name"] for rule in self.rules() if rule["type"] == "alerting" and rule["state"] == "firing"}


@contextmanager
def prometheus(
    home: Path,
    targets: Mapping[str, Iterable[str]],
    as_used: Callable[[str], str] = lambda shipped: shipped,
    authority: Path | None = None,
) -> Iterator[Prometheus]:
    """Runs it for the body.

    Args:
        home: Where its files are.
        targets: By job, the URLs of its processes.
        as_used: What becomes of the text of the shipped rules.
        authority: What signs the certificates of processes that serve with TLS.
    """
    needed("prometheus")
    (home / "rules").mkdir(parents=True)
    for name in RULES:
        (home / "rules" / name).write_text(as_used((OBSERVABILITY / "rules" / name).read_text()))
    YAML().dump(configured(targets, home, authority), home / "prometheus.yml")
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
    found = Prometheus(f"http://127.0.0.1:{port}", home)
    found.aim(targets)
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


def configured(jobs: Iterable[str], home: Path, authority: Path | None) -> dict[str, Any]:
    """The shipped configuration with the addresses in our files, and a second where it says a quarter of a minute."""
    shipped: dict[str, Any] = YAML(typ="safe").load(OBSERVABILITY / "prometheus.yml")
    assert {job["job_name"] for job in shipped["scrape_configs"]} >= set(jobs)
    tls = {} if authority is None else {"tls_config": {"ca_file": str(authority), "server_name": "localhost"}}
    scraped = [
        {
            "job_name": name,
            "file_sd_configs": [{"files": [str(home / f"{name}.json")], "refresh_interval": "1s"}],
            **tls,
        }
        for name in jobs
    ]
    return {
        **shipped,
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": scraped,
    }


def selectors(expression: str, names: set[str]) -> set[str]:
    """The vector selectors in an expression, each a name with its label matchers."""
    found = re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?", re.sub(r'(?<![=~!{,])"[^"]*"', "", expression))
    return {f"{name}{labels}" for name, labels in found if name in names}
