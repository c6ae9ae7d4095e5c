"""A process that has imported Footfall, and forks for each one that a test starts: a start then costs no import.

`python -m tests.preloaded` reads one `Wanted` a line and writes one `Change` a line. What is forked runs the same code
in the same way as a process of its own: `python -m footfall ..` with its own environment, session, signals and files.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Iterator

import msgspec

IMPORTED = ("command_side.app", "query_side.app", "projector.app", "console.app", "sinks.app", "footfall.cli.main")
IMPORTED_LATER = ("front", "command_side", "query_side", "projector", "console", "sink")  # of footfall.processes
PR_SET_PDEATHSIG = 1  # prctl(2)


class Wanted(msgspec.Struct, frozen=True):
    """A process to fork: `python -m <module> <arguments>`. What it writes is appended to the files."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    input: str
    output: str
    errors: str


class Change(msgspec.Struct, frozen=True):
    """A process was forked, or has ended: `code` is as `subprocess` has it."""

    pid: int
    code: int | None = None


def main() -> None:
    for name in (*IMPORTED, *(f"footfall.processes.{name}" for name in IMPORTED_LATER)):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what all share is not copied for a look of the collector
    wanted = serve()
    if wanted is not None:
        become(wanted)


def serve() -> Wanted | None:
    """Forks until nobody asks any more. Returns in the forked process with what it has to become; None in this one."""
    with contextlib.ExitStack() as ours:
        ready = ours.enter_context(selectors.DefaultSelector())
        woken, wake = (ours.enter_context(end) for end in socket.socketpair())
        for end in (woken, wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno())
        ready.register(woken, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is woken:
                    woken.recv(4096)
                    for ended in ends():
                        tell(ended)
                    continue
                line = sys.stdin.buffer.readline()  # whoever asks waits for the answer: there is no second line yet
                if not line:
                    return None
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    return msgspec.json.decode(line, type=Wanted)
                tell(Change(pid))


def ends() -> Iterator[Change]:
    """Yields the forked processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield Change(pid, os.waitstatus_to_exitcode(status))


def tell(told: Change) -> None:
    os.write(1, msgspec.json.encode(told) + b"\n")


def become(wanted: Wanted) -> None:
    """Makes this forked process what an interpreter of its own would be, and runs the module."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for default in (signal.SIGCHLD, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(default, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    written = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for number, path, flags in (
        (0, wanted.input, os.O_RDONLY),
        (1, wanted.output, written),
        (2, wanted.errors, written),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(wanted.environment)
    os.chdir(wanted.directory)
    sys.argv = [wanted.module, *wanted.arguments]
    runpy.run_module(wanted.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
