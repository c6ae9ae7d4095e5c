"""A small launcher: asks the kernel for a signal when the parent ends, then becomes the real program.

Run it by path with ``python -I -S``, so that it imports only what it needs and starts in about 15 ms. Arguments:
``<parent pid> <death signal number> <uid>:<gid> or - -- <program> <its arguments..>``.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def tie_to_parent(argv: list[str]) -> None:
    """Becomes the program after ``--``; does not return. Exits 1 if the system call or the program fails."""
    parent, death_signal, owner = int(argv[0]), int(argv[1]), argv[2]
    program = argv[argv.index("--") + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)  # before dropping privileges: only root may be able to read the library
    if owner != "-":
        drop_privileges(*(int(part) for part in owner.split(":")))
    # After the change of uid, because that clears the flag.
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"parent_death: prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # the parent ended before prctl, so no signal would ever come
        sys.exit("parent_death: the parent process has ended already")
    forget_inherited_signals()
    os.execv(program[0], program)  # noqa: S606 - the caller's own program, and no shell is wanted


def drop_privileges(uid: int, gid: int) -> None:
    """Becomes an ordinary user for good, without supplementary groups."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def forget_inherited_signals() -> None:
    """Restores the default signal handlers: an ignored SIGINT, as in a shell's background job, would survive exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    try:
        tie_to_parent(sys.argv[1:])
    except OSError as error:
        sys.exit(f"parent_death: {error}")
