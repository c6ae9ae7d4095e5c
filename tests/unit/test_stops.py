"""Every cause for which a partition stands still has a code, a sentence and a way on."""

import pytest

from projector.liveness.stops import MEANINGS, Stop, StopCause, cause_of
from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "stops.md").read_text()


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


def test_a_reason_of_another_version_has_no_cause() -> None:
    assert cause_of("offset out of range: the topic does not hold it") is None
    assert cause_of("") is None
