"""Starts child processes that end with their parent, waits for them, and stops them."""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from footfall.local.embedded.stack_error import StackError

PARENT_DEATH = Path(__file__).with_name("parent_death.py")
POLL_SECONDS = 0.02
LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Child:
    """One running server of the stack, the signal that asks it to end, and the seconds that it has for that."""

    name: str
    process: "subprocess.Popen[bytes]"
    log_path: Path
    stop_signal: signal.Signals
    grace_seconds: float


def spawn_child(
    argv: Sequence[str],
    *,
    death_signal: signal.Signals,
    env: Mapping[str, str] | None = None,
    log_path: Path | None = None,
    stdout: int | None = None,
    user: str | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Starts a program that receives `death_signal` when this process ends, however it ends.

    The child leads its own session, so that Ctrl-C in a terminal reaches only this process.

    Call it on the main thread: the kernel sends the signal when the *thread* that forked ends. On macOS, which has no
    prctl, the child is started without this: a ``kill -9`` of this process leaves it running until the next start on
    the same state ends it.

    Args:
        argv: The program's path and its arguments.
        death_signal: The signal.
        env: The environment; None: this process's.
        log_path: stdout and stderr are appended to this file.
        stdout: Without `log_path`: a file descriptor or a ``subprocess`` constant; None inherits.
        user: A system user to become, if this process is root.
        cwd: The working directory.
    """
    command = list(argv)
    if sys.platform == "linux":
        command = [*parent_death_command(death_signal, user), *argv]
    elif user is not None:
        raise StackError(f"{argv[0]} can become user {user!r} on Linux only. Run footfall as an ordinary user.")
    if log_path is None:
        return launch(command, stdout, env, cwd)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return launch(command, log, env, cwd)
    finally:
        os.close(log)


def parent_death_command(death_signal: signal.Signals, user: str | None) -> list[str]:
    owner = "-"
    if user is not None:
        entry = pwd.getpwnam(user)
        owner = f"{entry.pw_uid}:{entry.pw_gid}"
    return [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), str(int(death_signal)), owner, "--"]


def launch(
    command: Sequence[str], stdout: int | None, env: Mapping[str, str] | None, cwd: Path | None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=None if stdout is None else subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


def wait_for_end(child: Child, patience_seconds: float) -> None:
    """Waits for a short-lived child. Raises StackError with the end of its log if it fails or takes too long."""
    try:
        code = child.process.wait(patience_seconds)
    except subprocess.TimeoutExpired as error:
        child.process.kill()
        child.process.wait()
        raise StackError(
            f"{child.name} took longer than {patience_seconds:.0f} s.\n{log_excerpt(child.log_path)}"
        ) from error
    if code != 0:
        raise StackError(f"{child.name} {how_it_ended(code)}.\n{log_excerpt(child.log_path)}")


def wait_until_ready(child: Child, is_ready: Callable[[], bool], patience_seconds: float) -> None:
    """Waits until `is_ready()`. Raises StackError with the end of the child's log if it exits or takes too long."""
    deadline = time.monotonic() + patience_seconds
    while not is_ready():
        if child.process.poll() is not None:
            raise StackError(f"{child.name} {how_it_ended(child.process.returncode)}.\n{log_excerpt(child.log_path)}")
        if time.monotonic() > deadline:
            raise StackError(
                f"{child.name} was not ready after {patience_seconds:.0f} s.\n{log_excerpt(child.log_path)}"
            )
        time.sleep(POLL_SECONDS)


def how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by signal {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode} before it was ready"


def log_excerpt(log_path: Path) -> str:
    """Returns the last lines of a log, after a line that names the file."""
    lines = log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log_path.exists() else []
    return "\n".join([f"The end of its log, {log_path}:", *(f"  {line}" for line in lines)])


def stop_children(children: Iterable[Child]) -> None:
    """Asks all children to end, waits, and kills each child that runs longer than its grace period."""
    asked = list(children)
    for child in asked:
        if child.process.poll() is None:
            child.process.send_signal(child.stop_signal)
    started = time.monotonic()
    for child in asked:
        try:
            child.process.wait(max(0.0, started + child.grace_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
