"""Ends servers that a killed process left running on this state (Linux ends them with it, but not at once)."""

from collections.abc import Callable

import psutil

from footfall.local.embedded.paths import StatePaths

WAIT_SECONDS = 5.0
SERVER_NAMES = {"java", "postgres"}


def end_stale_processes(paths: StatePaths) -> None:
    """Waits for servers that still use this state, then ends them. The caller must hold the state's lock."""
    stale_processes = servers_on(paths)
    _, alive = psutil.wait_procs(stale_processes, WAIT_SECONDS)
    for act in (psutil.Process.terminate, psutil.Process.kill):
        alive = end(alive, act)


def end(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> list[psutil.Process]:
    for process in processes:
        try:
            act(process)
        except psutil.NoSuchProcess:
            continue
    return list(psutil.wait_procs(processes, WAIT_SECONDS)[1]) if processes else []


def servers_on(paths: StatePaths) -> list[psutil.Process]:
    """Returns the Java and PostgreSQL processes whose command line names files of this state."""
    brokers = (str(home / "server.properties") for home in paths.root.glob("kafka*"))
    marks = {*brokers, str(paths.postgres / "data")}
    servers = [p for p in psutil.process_iter(["name", "cmdline"]) if p.info["name"] in SERVER_NAMES]
    return [server for server in servers if marks & set(server.info["cmdline"] or [])]
