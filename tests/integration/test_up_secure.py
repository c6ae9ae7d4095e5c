"""`footfall up --secure`: HTTPS, keys, and a Kafka that lets in only whom it knows, with nothing prepared."""

import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from footfall.local.embedded import spawn_child
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

COMMAND = {"userId": "user-1", "eventType": "LOGIN"}


@pytest.fixture
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="footfall-secure-") as directory:
        yield Path(directory) / "state"


def test_everything_works_by_tls_with_a_key_and_without_one_nothing(state: Path, tmp_path: Path) -> None:
    port = free_port()
    up = spawn_child(
        [sys.executable, "-m", "footfall", "up", "--secure", "--state-dir", str(state), "--port", str(port)],
        death_signal=signal.SIGKILL,
        env={**os.environ, "ENVIRONMENT": "test"},
        log_path=tmp_path / "up.log",
    )
    try:
        wait_until(lambda: "Footfall is up" in (tmp_path / "up.log").read_text() or up.poll() is not None, 120, "up")
        assert up.poll() is None, (tmp_path / "up.log").read_text()
        context = ssl.create_default_context(cafile=state / "certificates" / "ca.pem")
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=PATIENCE) as client:
            assert client.get("/events/processed").status_code == 401
            assert client.post("/events/generate", json=COMMAND).status_code == 401
            client.headers["Authorization"] = f"Bearer {made_key((tmp_path / 'up.log').read_text(), state)}"
            wait_until(lambda: client.get("/events/processed").status_code == 200, 30, "the key to be known")
            posted = client.post("/events/generate", json=COMMAND)
            assert posted.status_code == 201, posted.text
            seen = f"/events/{posted.json()['event']['eventId']}"
            wait_until(lambda: client.get(seen).status_code == 200, 30, "the row")
            assert "strict-transport-security" in client.get(seen).headers
        checked = as_operator(state, f"{sys.executable} -m footfall topics check")
        assert "differs" not in checked, checked
        assert (state / "operator.env").stat().st_mode & 0o077 == 0
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0


def as_operator(state: Path, command: str) -> str:
    """What a command prints with the variables of the operator's file. Its exit code is 0."""
    lines = f"set -e; set -a; . {state / 'operator.env'}; set +a\n{command}"
    environment = {**os.environ, "ENVIRONMENT": "test"}
    run = subprocess.run(
        ["bash", "-c", lines], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def made_key(told: str, state: Path) -> str:
    """An operator makes it by the lines that `up` prints, as they stand there."""
    lines = told[told.index("set -a;") : told.index("curl")]
    run = subprocess.run(
        ["bash", "-c", f'{lines}\necho "$KEY"'],
        env={**os.environ, "ENVIRONMENT": "test"},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    post, get = re.findall(r"^curl (?:.*\\\n)*.*$", told, re.MULTILINE)
    for command in (post, get):
        assert 'Authorization: Bearer $KEY"' in command
        assert f"--cacert {state / 'certificates' / 'ca.pem'} " in command
    return run.stdout.strip()
