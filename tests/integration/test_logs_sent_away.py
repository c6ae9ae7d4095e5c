"""Log lines leave the machine as `deploy/logs` has it: each arrives, by TLS, and from here one can only add to them."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conftest import Footfall
from tests.drivers.rsyslog import SHIPPED, LogsAway, problems
from tests.foreign_clients import needed
from tests.patience import PATIENCE
from tests.processes import Process, wait_until


@pytest.fixture
def side(footfall: Footfall) -> Process:
    return footfall.start("query-side", LOG_LEVEL="DEBUG")


@pytest.fixture
def away(side: Process, tmp_path: Path) -> Iterator[LogsAway]:
    needed("rsyslog")
    found = LogsAway(tmp_path, side.log)
    yield found
    found.close()


def has_all(away: LogsAway, side: Process) -> bool:
    """Whether each line of the process's log has arrived, as it was written."""
    return set(side.log_text().splitlines()) <= set(away.kept())


@pytest.mark.parametrize("name", ["sender", "receiver"])
def test_what_is_shipped_is_sound(name: str) -> None:
    needed("rsyslog")
    assert problems(SHIPPED / f"{name}.conf") == []


def test_every_line_arrives_also_if_the_other_side_was_away(side: Process, away: LogsAway) -> None:
    wait_until(lambda: bool(side.log_text()) and has_all(away, side), PATIENCE, "the first lines")
    for round_ in range(2):
        away.receiver.kill()
        before = len(side.log_text())
        with side.log.open("a") as log:  # a process writes little by itself; an exception's line is large
            for number in range(200):
                log.write(
                    json.dumps({"event": "tried", "round": round_, "number": number, "exception": "x" * 300}) + "\n"
                )
            log.write(json.dumps({"event": "tried", "exception": "y" * 40_000}) + "\n")
        assert len(side.log_text()) > before
        away.receiver.start()
        wait_until(lambda: has_all(away, side), PATIENCE, "what was written meanwhile")
    [file] = away.files()
    assert file.stat().st_mode & 0o777 == 0o440
    assert all(json.loads(line) for line in away.kept() if line.startswith("{"))


def test_nobody_adds_a_line_without_a_certificate_for_it(side: Process, away: LogsAway, tmp_path: Path) -> None:
    wait_until(lambda: bool(side.log_text()) and has_all(away, side), PATIENCE, "the first lines")
    away.sender.kill()
    lines = len(away.kept())
    strangers = [
        away.another_sender("of-another-authority", trustme.CA()),
        away.another_sender("of-another-name", away._authority, "stranger.example.org"),
    ]
    try:
        for log in ("of-another-authority", "of-another-name"):
            told = tmp_path / log / "rsyslog.log"
            wait_until(lambda: "relp" in told.read_text().lower(), PATIENCE, "the refusal")  # noqa: B023
        assert len(away.kept()) == lines
    finally:
        for stranger in strangers:
            stranger.kill()
    httpx.get(f"{side.url}/health/live", timeout=PATIENCE)
    away.sender.start()
    wait_until(lambda: has_all(away, side), PATIENCE, "whoever may to be heard again")
