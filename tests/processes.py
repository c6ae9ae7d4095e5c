"""Footfall's processes as the tests run them: real processes, ready when they say so."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from footfall.local.embedded import spawn_child
from tests.forking import can_fork, fork
from tests.patience import PATIENCE, patient
from tests.ports import free_port

POLL, POLL_SELDOM = 0.02, 0.1  # seconds: a look costs what it looks at CPU, so the longer a wait is, the rarer they are

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass
class Process:
    """One `footfall ..` subprocess; `url` answers its probes (and the API, for a side)."""

    popen: "subprocess.Popen[bytes]"
    url: str
    log: Path

    def terminate(self, within: float = 10.0) -> int:
        """SIGTERM; returns the exit code, which must come within so many seconds on a quiet machine."""
        self.popen.terminate()
        return self.popen.wait(patient(within))

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.popen.kill()
        self.popen.wait(PATIENCE)

    def log_text(self) -> str:
        """Everything it has logged so far."""
        return self.log.read_text()


def start(
    command: str, environment: Mapping[str, str], log: Path, *, ready: bool = True, module: str = "footfall"
) -> Process:
    """Starts `footfall <command>` on a free port; with `ready`, returns once /health/ready answers 200.

    `module`: of another program than `footfall`, which takes the same arguments.
    """
    port = free_port()
    arguments, added = [*command.split(), "--port", str(port)], {"ENVIRONMENT": "test", **environment}
    if can_fork(added):
        popen: subprocess.Popen[bytes] = fork(arguments, {**os.environ, **added}, output=log, module=module)
    else:
        argv = [sys.executable, "-m", module, *arguments]
        popen = spawn_child(argv, death_signal=signal.SIGKILL, env={**os.environ, **added}, log_path=log)
    process = Process(popen, f"http://127.0.0.1:{port}", log)
    if ready:
        wait_until(lambda: is_ready(process), 30, f"{command} to be ready; its log: {log}")
    return process


def run_to_end(
    *arguments: str,
    environment: Mapping[str, str],
    module: str = "footfall",
    cwd: Path = REPOSITORY,
    answers: str = "",
) -> "subprocess.CompletedProcess[str]":
    """Runs `footfall <arguments>` to its end, as an operator does.

    Args:
        arguments: Of the command.
        environment: What differs from ours.
        module: Another program than `footfall`.
        cwd: The working directory.
        answers: The standard input.
    """
    everything = {**os.environ, "ENVIRONMENT": "test", **environment}
    argv = [sys.executable, "-m", module, *arguments]
    if not can_fork(environment):
        return subprocess.run(
            argv,
            cwd=cwd,
            env={"PYTHONPATH": str(REPOSITORY), **everything},
            input=answers,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    with tempfile.TemporaryDirectory(prefix="footfall-run-") as directory:
        given, output, errors = (Path(directory) / name for name in ("given", "output", "errors"))
        given.write_text(answers)
        started = fork(arguments, everything, output=output, errors=errors, answers=given, module=module, cwd=cwd)
        try:
            code = started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            started.kill()
            raise
        return subprocess.CompletedProcess(argv, code, output.read_text(), errors.read_text())


def is_ready(process: Process) -> bool:
    """Whether /health/ready answers 200; fails at once when the process has ended."""
    assert process.popen.poll() is None, f"ended with {process.popen.returncode}: {process.log_text()[-3000:]}"
    try:
        return httpx.get(f"{process.url}/health/ready", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], within: float, what: str) -> None:
    """Polls a condition that only the outside can see (another process, a server) until it holds.

    `within`: seconds that an ordinary, quiet machine needs at most; a slower one is given more (tests/patience.py).
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < patient(within), f"waited {patient(within):g} s for {what}"
        time.sleep(min(max(POLL, waited / 20), POLL_SELDOM))
