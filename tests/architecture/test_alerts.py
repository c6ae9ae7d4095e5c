"""The rules of Prometheus are what promtool accepts, each alert is fired by its fault, and each has a runbook."""

import re
import subprocess

from ruamel.yaml import YAML

from tests.architecture.repository import ROOT
from tests.drivers.prometheus import OBSERVABILITY, shipped_rules
from tests.foreign_clients import needed
from tests.patience import PATIENCE

WORDS = (  # of PromQL, and what Prometheus adds by itself
    *("sum", "max", "min", "rate", "increase", "abs", "changes", "clamp_min", "deriv", "time", "vector", "on", "or"),
    *("and", "unless", "histogram_quantile", "label_replace", "up", "e9"),
)


ALERTS = {rule["alert"]: rule for rule in shipped_rules("alerts.yml")}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    needed("prometheus")
    return subprocess.run(
        ["promtool", *arguments], cwd=OBSERVABILITY, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_every_alert_is_fired_by_its_fault_and_none_where_all_is_well() -> None:
    assert len(ALERTS) >= 10
    tests = YAML(typ="safe").load(OBSERVABILITY / "alert_tests.yml")["tests"]
    looked_at = [check for each in tests for check in each["alert_rule_test"]]
    fired = {check["alertname"] for check in looked_at if check.get("exp_alerts")}
    silent = {check["alertname"] for check in looked_at if not check.get("exp_alerts")}
    assert fired == silent == ALERTS.keys()
    run = promtool("test", "rules", "alert_tests.yml")
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_configuration_is_one_that_prometheus_takes() -> None:
    run = promtool("check", "config", "prometheus.yml")
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_leads_to_its_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    runbooks = re.findall(r"^### (Footfall\w+)$", page, re.MULTILINE)
    assert set(runbooks) == ALERTS.keys()
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_an_alert_asks_only_for_metrics_that_there_are() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    recorded = {rule["record"] for rule in shipped_rules("recording.yml")}
    for rule in [*ALERTS.values(), *shipped_rules("recording.yml")]:
        expression = re.sub(r'"[^"]*"|\{[^}]*\}|\[\w+\]|\boffset \w+|\bby \([^)]*\)|\bon \([^)]*\)', "", rule["expr"])
        for name in re.findall(r"[a-z_][a-z0-9_:]*", expression):
            known = name in listed or name in recorded or name.removesuffix("_bucket") in listed
            assert known or name in WORDS, f"{name} in {rule['expr']}"
