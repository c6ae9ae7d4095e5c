"""Every cause for which a partition stands still has a code, a sentence and a way on."""

import re

import pytest
import rich_click as click

from footfall.cli.main import cli
from projector.liveness.stops import MEANINGS, Stop, StopCause, cause_of
from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "stops.md").read_text()
COMMAND = re.compile(r"`footfall ([a-z][a-z-]*(?: [a-z][a-z-]*)*)")


@pytest.mark.parametrize("cause", StopCause)
def test_a_cause_says_what_happened_and_what_to_do(cause: StopCause) -> None:
    reason = Stop(cause, "offset 7").reason
    assert reason == f"{cause.value}: {MEANINGS[cause].sentence} (offset 7). {MEANINGS[cause].remedy}"
    assert cause_of(reason) is cause
    assert cause_of(Stop(cause).reason) is cause


@pytest.mark.parametrize("cause", StopCause)
def test_the_page_of_stops_explains_each_cause(cause: StopCause) -> None:
    assert f"\n## {cause.value}\n" in PAGE
    row = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{cause.value}`" in line)
    assert ("by itself" in row) is MEANINGS[cause].probed


def test_every_remedy_is_a_command_that_exists() -> None:
    commands = COMMAND.findall(PAGE) + [each for one in MEANINGS.values() for each in COMMAND.findall(one.remedy)]
    assert len(commands) > len(MEANINGS) / 2
    assert {command for command in commands if not is_command(command.split())} == set()


def is_command(words: list[str]) -> bool:
    """Whether they lead to a command, or to a group of some."""
    known: click.Command = cli
    for word in words:
        if not isinstance(known, click.Group) or word not in known.commands:
            return not isinstance(known, click.Group)  # what follows a command are its arguments
        known = known.commands[word]
    return True


def test_a_reason_of_another_version_has_no_cause() -> None:
    assert cause_of("offset out of range: the topic does not hold it") is None
    assert cause_of("") is None
