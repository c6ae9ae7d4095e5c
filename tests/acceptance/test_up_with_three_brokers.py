"""`footfall up --brokers 3`: topics with three copies, and a broker that is killed comes back by itself."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.patience import PATIENCE, patient
from tests.ports import free_port
from tests.processes import wait_until

OURS = ("DATABASE_URL", "REPORTING_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS")


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # Not below pytest's own directory: as root, PostgreSQL runs as another user, who may not enter it.
    with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
        yield Path(directory) / "state"


class Up:
    """`footfall up --brokers 3`, and other commands beside it."""

    def __init__(self, state_dir: Path, output: Path) -> None:
        self._state, self._output = state_dir, output
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        with output.open("w") as file:
            arguments = ("up", "--brokers", "3", "--port", str(port), "--projector-port", str(free_port()))
            self.popen = subprocess.Popen(self._command(*arguments), stdout=file, stderr=subprocess.STDOUT)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "footfall", *arguments, "--state-dir", str(self._state)]

    def printed(self) -> str:
        return self._output.read_text()

    def run(self, *arguments: str, **settings: str) -> tuple[int, str]:
        environment = {name: value for name, value in os.environ.items() if name not in OURS}
        done = subprocess.run(
            self._command(*arguments),
            env={**environment, **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def posted(self, user: str) -> dict[str, Any]:
        """The event of a command that is accepted in the end."""
        found: list[dict[str, Any]] = []

        def accepted() -> bool:
            body = {"userId": user, "eventType": "LOGIN", "payload": {}}
            answer = httpx.post(f"{self.url}/events/generate", json=body, timeout=PATIENCE)
            assert answer.status_code in (201, 503), answer.text
            found.extend([answer.json()["event"]] if answer.status_code == 201 else [])
            return bool(found)

        wait_until(accepted, PATIENCE, f"a command of {user} to be accepted")
        return found[0]

    def is_visible(self, event: dict[str, Any]) -> bool:
        return event in httpx.get(f"{self.url}/users/{event['userId']}/events", timeout=PATIENCE).json()

    def brokers(self) -> list[psutil.Process]:
        return [child for child in psutil.Process(self.popen.pid).children() if "kafka.Kafka" in child.cmdline()]


@pytest.mark.skipif(
    "FOOTFALL_LONG" not in os.environ, reason="its short form is tests/integration/test_three_brokers.py"
)
@pytest.mark.timeout(patient(300))
def test_up_with_three_brokers_bears_the_loss_of_one_and_check_says_what_differs(
    state_dir: Path, tmp_path: Path
) -> None:
    up = Up(state_dir, tmp_path / "output")
    try:
        wait_until(lambda: "/events/processed" in up.printed() or up.popen.poll() is not None, 120, "up to be ready")
        assert up.popen.poll() is None, up.printed()
        code, said = up.run("topics", "check")
        assert (code, said.count("as it should be")) == (0, 3), said
        event = up.posted("before")
        wait_until(lambda: up.is_visible(event), PATIENCE, "the event to be projected")
        killed = up.brokers()[0]
        killed.kill()
        event = up.posted("while one is away")
        wait_until(lambda: up.is_visible(event), PATIENCE, "an event to be projected by the others")
        wait_until(lambda: "has ended and is started again" in up.printed(), PATIENCE, "up to say so")
        wait_until(lambda: up.run("topics", "check")[0] == 0, PATIENCE, "every copy to be in sync again")
        code, said = up.run("topics", "check", KAFKA_PARTITIONS="12", KAFKA_REPLICATION_FACTOR="5")
        assert code == 1
        assert "has 10 partitions, and KAFKA_PARTITIONS is 12" in said
        assert "has 3 copies of each partition, and KAFKA_REPLICATION_FACTOR is 5" in said
        partitions = json.loads(up.run("status", "--json")[1])["generations"][0]["partitions"]
        assert len(partitions) == 10
        family = psutil.Process(up.popen.pid).children(recursive=True)
        up.popen.send_signal(signal.SIGTERM)
        assert up.popen.wait(PATIENCE) == 0, up.printed()
        assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
        code, said = up.run("up", "--brokers", "1")
        assert code == 1
        assert "was made for 3 brokers" in said
    finally:
        up.popen.kill()
        up.popen.wait(PATIENCE)
