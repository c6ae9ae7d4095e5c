"""A tiny launcher: tie this process to its parent's life, then become the real program.

Run by path with ``python -I -S``, so it imports only what it needs and starts in about 15 ms. Arguments:
``<parent pid> <death signal number> <uid>:<gid> or - -- <program> <its arguments..>``.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def tie_to_parent(argv: list[str]) -> None:
    """Become the program after ``--``; does not return. Exits 1 where the system call or the program fails."""
    parent, death_signal, owner = int(argv[0]), int(argv[1]), argv[2]
    program = argv[argv.index("--") + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)  # before the privileges go: the interpreter may be root's own
    if owner != "-":
        drop_privileges(*(int(part) for part in owner.split(":")))
    # After the change of uid, which clears the flag.
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"parent_death: prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before prctl: no signal would ever come
        sys.exit("parent_death: the parent is gone already")
    forget_inherited_signals()
    os.execv(program[0], program)  # noqa: S606 - the caller's own program, and no shell is wanted


def drop_privileges(uid: int, gid: int) -> None:
    """Become an ordinary user for good, with no supplementary groups."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def forget_inherited_signals() -> None:
    """A shell starts background jobs with SIGINT ignored, and that would survive exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    try:
        tie_to_parent(sys.argv[1:])
    except OSError as error:
        sys.exit(f"parent_death: {error}")
