"""Starts Footfall's processes by forking one that has imported it (tests/preloaded.py), as `subprocess` would."""

import functools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.patience import PATIENCE
from tests.preloaded import Change, Wanted

# What the interpreter, its allocator or its loader reads when it starts: a fork would not.
READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
MEASURES_COVERAGE = "COVERAGE_PROCESS_CONFIG" in os.environ  # each process begins to measure when it starts


class Forked(subprocess.Popen[bytes]):
    """One forked process. It is no child of this one; how it ended is told by the one that forked it."""

    def __init__(self, pid: int) -> None:
        # Not Popen's own: nothing is to be started, and there is nothing to wait for in the kernel.
        self.pid, self.args = pid, f"forked process {pid}"
        self.stdin = self.stdout = self.stderr = None
        self.returncode: int | Any = None
        self._ended = threading.Event()

    def has_ended(self, code: int) -> None:
        """Is called once, with the exit code."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """The exit code; None: it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code. Raises TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return int(self.returncode)

    def __del__(self, *_: object) -> None:
        """Popen would wait for a child here."""


class Forker:
    """The process that forks. It ends when this process does, and then the kernel ends what it forked."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.preloaded"]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asking, self._forked = threading.Lock(), queue.SimpleQueue[Forked]()
        self._running: dict[int, Forked] = {}
        threading.Thread(target=self._listen, name="told of forked processes", daemon=True).start()

    def fork(self, wanted: Wanted) -> Forked:
        """Returns the process that runs now."""
        assert self._popen.stdin is not None
        with self._asking:
            self._popen.stdin.write(msgspec.json.encode(wanted) + b"\n")
            self._popen.stdin.flush()
            return self._forked.get(timeout=PATIENCE)

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            told = msgspec.json.decode(line, type=Change)
            if told.code is None:
                self._running[told.pid] = Forked(told.pid)
                self._forked.put(self._running[told.pid])
            else:
                self._running.pop(told.pid).has_ended(told.code)


forker = functools.cache(Forker)


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a fork is the same as a process of its own with this environment, which names what differs from ours."""
    needs_start = MEASURES_COVERAGE or any(name.startswith(READ_AT_START) for name in environment)
    return sys.platform == "linux" and not needs_start


def fork(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: Path,
    errors: Path | None = None,
    answers: Path | None = None,
    module: str = "footfall",
    cwd: Path | None = None,
) -> Forked:
    """Starts `python -m <module> <arguments>`.

    Args:
        arguments: Of the module.
        environment: All of it.
        output: Standard output is appended to this file.
        errors: Standard error is appended to this file; None: to that of the output.
        answers: The standard input; None: it is at its end.
        module: What to run.
        cwd: The working directory; None: ours.
    """
    output.touch(mode=0o600)  # a test may look before the process has begun
    files = (str(answers or os.devnull), str(output), str(errors or output))
    return forker().fork(Wanted(module, list(arguments), dict(environment), str(cwd or Path.cwd()), *files))
