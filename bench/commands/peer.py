"""Compares with the stack of the original Express API (Express 4.18, kafkajs 2.2, one process).

It measures POSTs to two workers, and all events as one array.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.clients.load import Measured
from bench.commands.post import command_side, load
from bench.projecting.drain import fresh_database
from bench.reads.read import ARRAY, PROCESSED, download, query_side
from bench.reads.stored import fill
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError, end, free_port, wait_for_port
from footfall.local.embedded import spawn_child

SOURCE = Path(__file__).parents[1] / "peers" / "express"
INSTALL_WITHIN = 120.0  # seconds
PEER = "Express 4.18 + kafkajs 2.2"
CONNECTIONS = (64, 256)


def peer(stage: Stage) -> list[Result]:
    """Two command-side workers, and 100,000 events as one array, in turn with Express and kafkajs (needs node)."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        stage.say("[bold]skipped: the peer needs node and npm, and one of them is not on PATH[/bold]")
        return []
    topic = stage.topic("bench-peer")
    url = fresh_database(stage, stage.stack.admin_url)
    fill(url, 0, ARRAY)
    with express(stage, topic, node) as theirs:
        results = posts(stage, topic, theirs)
        with query_side(stage) as (ours, _):
            return results + arrays(stage, ours, theirs)


def posts(stage: Stage, topic: str, theirs: int) -> list[Result]:
    """Requests/s of two workers, each with half of the connections, in turn with the peer."""
    results: list[Result] = []
    with command_side(stage, topic) as first, command_side(stage, topic) as second:
        for connections in CONNECTIONS:
            mine, peers, errors = [], [], 0
            for run in range(stage.runs):
                both = beside_each_other(stage, (first, second), connections // 2, run)
                mine.append(sum(one.per_second for one in both))
                peers.append(load(stage, theirs, connections, run).per_second)
                errors += sum(one.errors for one in both)
                figures = f"{mine[-1]:,.0f} requests/s, {PEER} {peers[-1]:,.0f}"
                stage.say(f"POST at {connections} connections, two workers, run {run + 1}/{stage.runs}: {figures}")
            name = f"post_{connections}_two_workers"
            results += [
                compared(name, "requests/s", mine, PEER, peers, (">=", 12)),
                absolute(f"{name}_errors", "errors", [errors], ("==", 0)),
            ]
    return results


def beside_each_other(stage: Stage, ports: tuple[int, ...], connections: int, run: int) -> list[Measured]:
    """Runs one load generator for each port, all at the same time."""
    with ThreadPoolExecutor(len(ports)) as threads:
        return list(threads.map(lambda port: load(stage, port, connections, run), ports))


def arrays(stage: Stage, ours: int, theirs: int) -> list[Result]:
    """Measures the seconds for the whole array; the peer has it in memory, Footfall in PostgreSQL."""
    mine, peers = [], []
    for run in range(stage.runs):
        mine.append(download(ours, PROCESSED, "*/*")[1])
        peers.append(download(theirs, PROCESSED, "*/*")[1])
        stage.say(f"array of {ARRAY:,}, run {run + 1}/{stage.runs}: {mine[-1]:.2f} s, {PEER} {peers[-1]:.2f} s")
    return [compared("json_array_100_000_beside_the_peer", "s", mine, PEER, peers, ("<=", 1.0))]


@contextmanager
def express(stage: Stage, topic: str, node: str) -> Iterator[int]:
    """Installs and runs the peer during the body; yields its port."""
    directory, port = stage.directory / "express", free_port()
    shutil.copytree(SOURCE, directory, ignore=shutil.ignore_patterns("node_modules"))
    stage.say("installing the peer")
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=directory, capture_output=True, check=True, timeout=INSTALL_WITHIN)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = (error.stderr or b"").decode(errors="replace")[-1000:]
        raise StageError(f"npm ci failed in {directory}:\n{output}") from error
    log_path = stage.directory / "express.log"
    environment = {"PORT": str(port), "KAFKA_TOPIC": topic, "EVENTS": str(ARRAY), "NODE_ENV": "production"}
    process = spawn_child(
        [node, str(directory / "server.js")],
        death_signal=signal.SIGKILL,
        env=stage.environment(environment),
        log_path=log_path,
    )
    try:
        wait_for_port(port, process, log_path)
        yield port
    finally:
        end(process)
