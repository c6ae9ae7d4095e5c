"""What every place says of each planted fault is its own reason, and following the remedy that is shown heals it."""

import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from footfall.cli.main import cli
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.drivers.commands import environment
from tests.drivers.faults.lives import told_while_it_stands
from tests.drivers.faults.shortened import shortened
from tests.drivers.faults.table import faults
from tests.drivers.faults.watching import FOLLOW, Watching, watching
from tests.drivers.faults.world import SOON, Fault, World, ask
from tests.drivers.prometheus import OBSERVABILITY, RULES, shipped_rules
from tests.forking import can_fork
from tests.otlp_receiver import Receiver, otlp_receiver
from tests.patience import PATIENCE
from tests.processes import run_to_end, wait_until
from tests.producing import an_event, produce, record_of

LONG = "FOOTFALL_LONG" in os.environ
FAULTS = faults()
QUICK = ("lock held on the table", "projector frozen", "certificate expired")
# The tests' own PostgreSQL does not wait for its disk, which is a finding of its own test.
OF_TESTS = {"durability"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[World]]:
    """The one that is well, if there is one: what a failed test leaves planted misleads no other test."""
    made: list[World] = []
    yield made
    for each in made:
        each.footfall.close()


@pytest.fixture
def world(
    worlds: list[World],
    new_footfall: Callable[..., Footfall],
    receiver: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    found = worlds.pop() if worlds else World(new_footfall(), tmp_path_factory.mktemp("faults"), receiver)
    yield found
    if found.is_well:
        worlds.append(found)
    else:
        found.footfall.close()


def not_well(world: World) -> list[dict[str, Any]]:
    """What the doctor finds wrong now."""
    more = {**SOON, **world.environment}
    variables = environment(world.footfall, world.url or world.footfall.servers.admin_url, **more)
    if can_fork(more):
        said = CliRunner().invoke(cli, ["doctor", "--json"], env=variables).stdout
    else:  # what is to be set is read when a program is loaded
        said = run_to_end("doctor", "--json", environment=variables).stdout
    return [each for each in json.loads(said) if each["verdict"] != "well" and each["check"] not in OF_TESTS]


@pytest.mark.parametrize("name", FAULTS if LONG else QUICK)
def test_a_planted_fault_is_told_of_and_its_remedy_heals_it(world: World, tmp_path: Path, name: str) -> None:
    fault, world.is_well = FAULTS[name], False
    with watching(world, tmp_path / "prometheus") as watch:
        watch.wait_until_well()
        with fault.plant(world) as follow:
            words = said_by_the_doctor(world, fault)
            if LONG and fault.check:
                shown_by_a_console(world, fault)
            watch.wait_until_told_of(fault)
            wait_until(lambda: fault.logged in log_of(world, fault), 30, f"the log to say {fault.logged}")
            is_told = told_while_it_stands(world, fault.trace)
            mended = time.time_ns()
            follow(words)
            assert_healed(world, fault, watch)
            is_told(mended)
    world.is_well = True


def said_by_the_doctor(world: World, fault: Fault) -> str:
    """What it says of the fault, once it does. It names no other cause; what projectors do is an effect."""
    found: list[dict[str, Any]] = []

    def is_named() -> bool:
        everything = not_well(world)
        found[:] = [each for each in everything if each["check"] == fault.check and fault.says in each["says"]]
        problems = {each["check"] for each in everything if each["verdict"] == "problem"}
        assert problems <= {fault.check, "projecting"}, everything
        return bool(found) if fault.check else not everything

    wait_until(is_named, 30, f"the doctor to name {fault.name}")
    words = " ".join(f"{each['says']} {each['remedy']}".strip() for each in found)
    assert fault.remedy in words
    return words


def shown_by_a_console(world: World, fault: Fault) -> None:
    """A console that is started now, as somebody would in need, shows it on its first page."""
    url = world.url or world.footfall.servers.admin_url
    urls = {"DATABASE_URL": url, "OPERATOR_DATABASE_URL": url}
    console = world.footfall.start("console", ready=False, **{**SOON, **urls, **world.environment})
    if "TLS_CERTIFICATE_FILE" in world.environment:
        console.url = console.url.replace("http:", "https:")

    def shown() -> bool:
        assert console.popen.poll() is None, console.log_text()[-3000:]
        try:
            page = html.unescape(httpx.get(f"{console.url}/console", timeout=PATIENCE, verify=False).text)  # noqa: S501
        except httpx.TransportError:  # it starts
            return False
        text = re.sub(r"</?code>", "`", page)
        return fault.says in text and fault.remedy in text

    wait_until(shown, 40, f"the overview to show {fault.says!r}")
    assert console.terminate() == 0


def log_of(world: World, fault: Fault) -> str:
    return (world.front if fault.logged_by == "front" else world.projector).log_text()


def assert_healed(world: World, fault: Fault, watch: Watching) -> None:
    """Nothing is wrong any longer, nobody is told of anything, and events are projected."""
    stays = {fault.check} if fault.stays else set()
    wait_until(lambda: {each["check"] for each in not_well(world)} <= stays, 30, "nothing else to be wrong")
    before = healed(world)
    produce(world.footfall, [record_of(an_event("healed")) for _ in range(6)])
    wait_until(lambda: healed(world) == before + 6, 30, "events to be projected again")
    watch.wait_until_well(but=fault.alerts if fault.stays else ())


def healed(world: World) -> int:
    found = ask(world, "SELECT count(*) AS events FROM read.processed_events WHERE user_id = 'healed'")
    return int(found[0]["events"])


def test_the_page_has_every_fault_with_what_is_said_of_it() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| ([^|`]+?) \| (.+) \|$", page, re.MULTILINE)
    listed = {name: rest.split(" | ") for name, rest in rows if name not in ("fault", "---")}
    assert listed.keys() == FAULTS.keys()
    assert len(listed) >= 20
    for name, (doctor, alerts, log, trace, remedy) in listed.items():
        fault = FAULTS[name]
        assert (f"`{fault.check}`" if fault.check else "nothing") in doctor, name
        assert set(re.findall(r"Footfall[A-Z]\w+", alerts)) == {*fault.alerts, *fault.effects}, name
        assert fault.logged in log or (not fault.logged and log.startswith("nothing")), name
        assert trace.startswith(f"{fault.trace}"), name
        assert remedy
    assert all(f"`{name}`" in page for name in FOLLOW)


def test_at_least_ten_shipped_alerts_are_fired_by_planted_faults() -> None:
    shipped = {rule["alert"] for rule in shipped_rules("alerts.yml")}
    fired = {alert for fault in FAULTS.values() for alert in fault.alerts}
    assert fired <= shipped
    assert len(fired) >= 20


@pytest.mark.parametrize("name", RULES)
def test_nothing_but_durations_differs_in_the_rules_that_faults_fire(name: str) -> None:
    shipped = (OBSERVABILITY / "rules" / name).read_text()
    shorter = shortened(shipped)
    assert shorter != shipped
    durations = r"(?<=[\[ ])\d+(ms|[smhd])(?=[\]\n)])|(?<= > )\d+(\.\d+)?"
    assert re.sub(durations, "..", shorter) == re.sub(durations, "..", shipped)
