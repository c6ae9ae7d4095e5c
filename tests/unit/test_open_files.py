"""A process opens as many files as its connections need, or has fewer connections and says so."""

import resource
import subprocess
import sys

import msgspec
import pytest

from tests.patience import PATIENCE
from web.transport.open_files import FURTHER_FILES

# A process may lower its hard limit, and cannot raise it again: so each case is a process of its own.
PROGRAM = """
import resource, sys
from telemetry.logs import configure_logs
from web.transport.open_files import connections_allowed

soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
configure_logs("INFO")
print(connections_allowed(connections), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def allowed(soft: int, hard: int, connections: int) -> tuple[list[int], list[dict[str, object]]]:
    """What a process allows with these limits: connections, soft and hard limit then; and what it logs."""
    arguments = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return [int(word) for word in run.stdout.split()], [msgspec.json.decode(line) for line in run.stderr.splitlines()]


def test_the_soft_limit_is_raised_as_far_as_the_connections_need() -> None:
    assert allowed(300, 1_000, 500) == ([500, 500 + FURTHER_FILES, 1_000], [])
    assert allowed(1_000, 1_000, 500) == ([500, 1_000, 1_000], [])


@pytest.mark.parametrize(("hard", "connections"), [(1_000, 744), (300, 150)])
def test_a_hard_limit_that_is_too_low_lowers_the_connections_with_one_warning(hard: int, connections: int) -> None:
    found, logged = allowed(256, hard, 4_000)
    assert found == [connections, hard, hard]
    assert [(line["level"], line["event"]) for line in logged] == [("warning", "max_connections_lowered")]
    assert (logged[0]["max_connections"], logged[0]["allowed"]) == (4_000, connections)
    assert (logged[0]["open_files_needed"], logged[0]["open_files_limit"]) == (4_000 + FURTHER_FILES, hard)


def test_the_default_of_connections_fits_into_this_machines_limits() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4_000 + FURTHER_FILES:
        pytest.skip(f"the hard limit of open files is {hard}")
    assert allowed(1_024, hard, 4_000)[0][0] == 4_000
