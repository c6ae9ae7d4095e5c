"""The doctor names each planted fault by its own reason, and following the remedy that it shows heals it."""

import html
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from footfall.cli.main import cli
from operations.doctor import database
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.drivers.commands import environment
from tests.drivers.faults.table import faults
from tests.drivers.faults.world import World, ask
from tests.drivers.prometheus import shipped_rules
from tests.patience import PATIENCE
from tests.processes import Process, is_ready, wait_until
from tests.producing import an_event, produce, record_of

SOON = {"WATCHDOG_INTERVAL_MS": "2000", "KAFKA_SESSION_TIMEOUT_MS": "2000", "KAFKA_HEARTBEAT_INTERVAL_MS": "300"}
LONG = "FOOTFALL_LONG" in os.environ
FAULTS = faults()
QUICK = (
    *("wrong password", "certificate expired", "clock 10 minutes off", "out of connections", "poisoned user"),
    "PostgreSQL read-only",
)


@pytest.fixture(scope="module")
def world(shared_footfall: Footfall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    def launch(footfall: Footfall, waits: bool) -> Process:
        projector = footfall.start("projector", ready=False, **SOON)
        if waits:
            wait_until(lambda: owns(projector), 30, "a projector that owns every partition")
        return projector

    with pytest.MonkeyPatch.context() as patched:
        # The tests' own PostgreSQL does not wait for its disk, which is a finding of its own test.
        patched.setattr(database, "DURABILITY", "SELECT name FROM pg_settings WHERE false")
        yield World(shared_footfall, launch, launch(shared_footfall, True), tmp_path_factory.mktemp("faults"))


def owns(projector: Process) -> bool:
    return is_ready(projector) and 'partitions_owned{generation="read_g1"} 6.0' in text_of(projector)


def text_of(projector: Process) -> str:
    return httpx.get(f"{projector.url}/metrics", timeout=PATIENCE).text


def not_well(world: World) -> list[dict[str, Any]]:
    """What the doctor finds wrong now."""
    more = {**SOON, **world.environment}
    variables = environment(world.footfall, world.url or world.footfall.servers.admin_url, **more)
    run = CliRunner().invoke(cli, ["doctor", "--json"], env=variables)
    assert run.exception is None or isinstance(run.exception, SystemExit), repr(run.exception)
    return [each for each in json.loads(run.stdout) if each["verdict"] != "well"]


@pytest.mark.parametrize("name", FAULTS if LONG else QUICK)
def test_a_planted_fault_is_named_and_its_remedy_heals_it(world: World, name: str) -> None:
    fault = FAULTS[name]
    found: list[dict[str, Any]] = []
    world.undo()

    def is_named() -> bool:
        everything = not_well(world)
        found[:] = [each for each in everything if each["check"] == fault.check]
        # No other cause is named; what the projectors do is an effect.
        assert {each["check"] for each in everything if each["verdict"] == "problem"} <= {fault.check, "projecting"}
        return any(fault.says in each["says"] for each in found) or (not fault.check and not everything)

    with fault.plant(world) as follow:
        wait_until(is_named, 30, f"the doctor to name {name}")
        words = " ".join(f"{each['says']} {each['remedy']}".strip() for each in found if fault.says in each["says"])
        assert fault.remedy in words
        if LONG and fault.check and not fault.only_here:
            shown_by_a_console(world, fault.says, fault.remedy)
        wait_until(lambda: fault.logged in world.projector.log_text(), 30, f"the projector to log {fault.logged}")
        follow(words)
        heals = {fault.check} if fault.stays else set()
        wait_until(lambda: {each["check"] for each in not_well(world)} == heals, 30, "nothing else to be wrong")
        before = healed(world)
        produce(world.footfall, [record_of(an_event("healed")) for _ in range(6)])
        wait_until(lambda: healed(world) == before + 6, 30, "events to be projected again")


def shown_by_a_console(world: World, says: str, remedy: str) -> None:
    """A console that is started now, as somebody would in need, shows it on its first page."""
    url = world.url or world.footfall.servers.admin_url
    urls = {"DATABASE_URL": url, "OPERATOR_DATABASE_URL": url}
    console = world.footfall.start("console", ready=False, **{**SOON, **urls, **world.environment})

    def shown() -> bool:
        assert console.popen.poll() is None, console.log_text()[-3000:]
        try:
            page = html.unescape(httpx.get(f"{console.url}/console", timeout=PATIENCE).text)
        except httpx.TransportError:  # it starts
            return False
        text = re.sub(r"</?code>", "`", page)
        return says in text and remedy in text

    wait_until(shown, 40, f"the overview to show {says!r}")
    assert console.terminate() == 0


def healed(world: World) -> int:
    found = ask(world, "SELECT count(*) AS events FROM read.processed_events WHERE user_id = 'healed'")
    return int(found[0]["events"])


def test_the_page_has_every_fault_with_what_is_said_of_it() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| ([^|`]+?) \| (.+) \|$", page, re.MULTILINE)
    listed = {name: rest for name, rest in rows if name not in ("fault", "---")}
    assert listed.keys() == FAULTS.keys()
    assert len(listed) >= 20
    for name, fault in FAULTS.items():
        assert (f"`{fault.check}`" if fault.check else "nothing") in listed[name], name
        assert fault.alert in listed[name], name
    assert set(re.findall(r"Footfall[A-Z]\w+", " ".join(listed.values()))) <= {
        rule["alert"] for rule in shipped_rules("alerts.yml")
    }
