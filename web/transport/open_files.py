"""Lets a process open the file descriptors that its connections need, or lowers the bound of connections."""

import resource

from telemetry.logs import get_logger

FURTHER_FILES = 256  # descriptors beside the connections: to Kafka and PostgreSQL, modules, pipes


def connections_allowed(max_connections: int) -> int:
    """Raises the soft limit of open files, and returns how many connections the process may have.

    Many systems start processes with a soft limit of 1,024 and a far higher hard limit.

    Args:
        max_connections: The setting MAX_CONNECTIONS.

    Returns:
        `max_connections`, or fewer, with a warning in the log, if the hard limit is too low for them.
    """
    needed = max_connections + FURTHER_FILES
    limit = _raise_soft_limit(needed)
    if limit >= needed:
        return max_connections
    allowed = max(1, limit - FURTHER_FILES, limit // 2)
    get_logger("server").warning(
        "max_connections_lowered",
        max_connections=max_connections,
        allowed=allowed,
        open_files_needed=needed,
        open_files_limit=limit,
        remedy=f"raise the hard limit of open files (ulimit -Hn, LimitNOFILE) to {needed}, or lower MAX_CONNECTIONS",
    )
    return allowed


def _raise_soft_limit(files: int) -> int:
    """Raises the soft limit to `files` or to the hard limit, and returns it. An unlimited one counts as `files`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return files
    raised = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if raised > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised
