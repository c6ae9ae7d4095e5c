"""The programs in `examples/` do what they say, each against a running Footfall."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from click.testing import CliRunner

from footfall.cli.main import cli
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until

EXAMPLES = ROOT / "examples"
RUN_HERE = {"post.sh", "post.py", "follow_stream.py", "feed_to_file.py", "ask_in_sql.sh"}


@pytest.fixture(scope="module")
def url(shared_footfall: Footfall) -> str:
    """Both sides behind one port, as `make up` has them, and a projector."""
    shared_footfall.start("projector", ready=False)
    return shared_footfall.start("front").url


Run = Callable[..., str]


@pytest.fixture
def run(url: str) -> Run:
    """Runs an example as its first lines say, and returns what it prints."""

    def run(name: str, *arguments: str, **environment: str) -> str:
        interpreter = [sys.executable] if name.endswith(".py") else []
        done = subprocess.run(
            [*interpreter, str(EXAMPLES / name), *arguments],
            env={**os.environ, "ENVIRONMENT": "test", "FOOTFALL_URL": url, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == RUN_HERE


def test_post_with_curl_reads_its_own_event(run: Run) -> None:
    answer, event = (json.loads(line) for line in run("post.sh", "carla").splitlines())
    assert answer["success"] is True
    assert answer["event"] == event
    assert event["userId"] == "carla"


def test_post_from_python_records_one_event(run: Run, url: str) -> None:
    event = json.loads(run("post.py", "pia"))
    wait_for(url, event)
    assert events_of(url, "pia") == [event]


def test_the_stream_is_followed_from_where_it_begins(run: Run, url: str) -> None:
    """What the client sees first is the first event that was recorded after it came."""
    follower = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "follow_stream.py"), "2"],
        env={**os.environ, "FOOTFALL_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stderr is not None
        assert follower.stderr.readline().startswith("following from ")
        posted = [json.loads(run("post.py", "fritz")) for _ in range(2)]
        told, _ = follower.communicate(timeout=PATIENCE)
    finally:
        follower.kill()
        follower.wait()
    assert [json.loads(line) for line in told.splitlines()] == posted


def test_the_feed_goes_into_a_file_once_however_often_the_program_is_cut_off(
    run: Run, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    first = json.loads(run("post.py", "frieda"))
    wait_for(url, first)
    run("feed_to_file.py", str(file))
    with file.open("a") as lines:
        lines.write('{"half a line')  # a run that was killed before it wrote its cursor
    second = json.loads(run("post.py", "frieda"))
    wait_for(url, second)
    assert run("feed_to_file.py", str(file)) == "1 new events\n"
    copied = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event for event in copied if event["userId"] == "frieda"] == [first, second]
    assert len({event["eventId"] for event in copied}) == len(copied)


def test_sql_is_asked_as_a_reporter(run: Run, url: str, shared_footfall: Footfall) -> None:
    event = json.loads(run("post.py", "sara"))
    wait_for(url, event)
    owner = shared_footfall.servers.admin_url
    granted = CliRunner().invoke(
        cli,
        ["grant-reporter", "examples_reporter", "--password-stdin"],
        input="not-a-secret-here\n",
        env={"ENVIRONMENT": "test", "DATABASE_URL": owner},
    )
    assert granted.exit_code == 0, granted.output
    parts = urlsplit(owner)
    login = f"examples_reporter:not-a-secret-here@{parts.netloc.rpartition('@')[2]}"
    reporter = urlunsplit(parts._replace(netloc=login))
    footfall = Path(sys.executable).with_name("footfall")
    printed = run("ask_in_sql.sh", REPORTING_DATABASE_URL=reporter, FOOTFALL=str(footfall))
    assert "LOGIN" in printed
    assert "sara" in printed


def events_of(url: str, user: str) -> list[object]:
    events: list[object] = httpx.get(f"{url}/events/processed", params={"userId": user}).raise_for_status().json()
    return events


def wait_for(url: str, event: dict[str, str]) -> None:
    """Returns once the query side sees the event."""
    wait_until(lambda: event in events_of(url, event["userId"]), 15, "the event to be visible")
