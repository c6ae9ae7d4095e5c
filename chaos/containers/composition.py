"""Starts the services of `compose.yaml` in the order of their dependencies.

podman-compose makes the containers as the file says. This module does what Debian's Podman cannot: it has no
`start_interval`, and without systemd it does not run health checks or wait for them.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from chaos.containers.engine import Engine, EngineError
from chaos.containers.images import ROOT

PROJECT = "footfall-rehearsal"
PORT = 3210
SECRETS = (
    *("POSTGRES_PASSWORD", "FOOTFALL_OWNER_PASSWORD", "FOOTFALL_PROJECTOR_PASSWORD", "FOOTFALL_QUERY_PASSWORD"),
    "POSITION_SECRET",
)
PATIENCE = 300.0  # seconds for one service to reach its condition
POLL = 0.5  # seconds
CLUSTER = ROOT / "deploy/cluster.env"

Say = Callable[[str], None]


class Composition:
    """The project's containers."""

    def __init__(self, engine: Engine, home: Path, say: Say, *, cluster: bool = False) -> None:
        """Writes the adapted file.

        Args:
            engine: Podman.
            home: Directory for that file, and for secrets that are made for this run.
            say: Takes a line of progress.
            cluster: With three brokers, as `deploy/cluster.env` has it.
        """
        self._engine = engine
        self._say = say
        document = YAML(typ="safe").load(ROOT / "compose.yaml")
        self.services: dict[str, dict[str, Any]] = document["services"]
        self.networks: dict[str, dict[str, Any]] = document["networks"]
        self._file = home / "compose.yaml"
        _adapt(document, cluster=cluster)
        YAML(typ="safe").dump(document, self._file)
        environment = {name: secrets.token_hex(24) for name in SECRETS} | {"PUBLIC_PORT": str(PORT)}
        written = "".join(f"{name}={value}\n" for name, value in environment.items())
        (home / ".env").write_text(written + (CLUSTER.read_text() if cluster else ""))

    def containers(self, service: str) -> list[str]:
        """Returns the names of a service's containers."""
        count = self.services[service].get("deploy", {}).get("replicas", 1)
        return [f"{PROJECT}_{service}_{number}" for number in range(1, count + 1)]

    def is_job(self, service: str) -> bool:
        """Whether the service ends by itself."""
        return str(self.services[service]["restart"]).startswith("on-failure")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs every service during the body, and removes containers, volumes and networks afterwards."""
        self.down()
        try:
            for services in self._steps():
                for service in services:
                    self._begin(service)
                for service in services:
                    self._until_there(service)
            yield
        finally:
            self.down()

    def down(self) -> None:
        """Removes everything that this or an earlier run made; podman-compose by itself forgets further replicas."""
        label = f"label=io.podman.compose.project={PROJECT}"
        left = self._engine.call("ps", "--all", "--quiet", "--filter", label).stdout.split()
        if left:
            self._engine.call("rm", "--force", "--volumes", *left, timeout=PATIENCE)
        self._compose("down", "--volumes", "--timeout", "20", check=False)

    def logs(self, service: str, lines: int = 15) -> str:
        """Returns the last log lines of each container of a service."""
        tail = ("logs", "--tail", str(lines))
        found = [self._engine.call(*tail, name, check=False) for name in self.containers(service)]
        return "\n".join(each.stdout + each.stderr for each in found)

    def kill(self, service: str) -> None:
        """Sends SIGKILL to a service's first container, and waits until its restart policy has started it again."""
        name = self.containers(service)[0]
        state = self._engine.inspect(name)["State"]
        os.kill(state["Pid"], signal.SIGKILL)
        self._until(f"{name} was started again", lambda: self._started_since(name, state["StartedAt"]))

    def state_of(self, service: str) -> dict[str, Any]:
        """Returns Podman's description of a service's first container."""
        return self.description(self.containers(service)[0])

    def description(self, container: str) -> dict[str, Any]:
        """Returns Podman's description of a container."""
        return self._engine.inspect(container)

    def network(self, name: str) -> dict[str, Any]:
        """Returns Podman's description of a network."""
        return self._engine.inspect_network(name)

    def until_healthy(self, service: str) -> None:
        """Waits until each container of a service passes its health check in compose.yaml."""
        for name in self.containers(service):
            self._until(f"{name} is healthy", lambda name=name: self._engine.healthy(name))  # type: ignore[misc]

    def _started_since(self, name: str, before: str) -> bool:
        state = self._engine.inspect(name)["State"]
        return bool(state["Running"]) and state["StartedAt"] != before

    def _steps(self) -> Iterator[list[str]]:
        """Yields the services that can start together, because those that they depend on are there."""
        there: set[str] = set()
        while len(there) < len(self.services):
            ready = [
                name
                for name, service in self.services.items()
                if name not in there and set(service.get("depends_on", {})) <= there
            ]
            yield ready
            there |= set(ready)

    def _begin(self, service: str) -> None:
        count = len(self.containers(service))
        self._compose("up", "--detach", "--no-build", "--no-deps", "--scale", f"{service}={count}", service)

    def _until_there(self, service: str) -> None:
        began = time.monotonic()
        if self.is_job(service):
            self._until_ended(service)
        else:
            self.until_healthy(service)
        self._say(f"{service}: {'done' if self.is_job(service) else 'healthy'} after {time.monotonic() - began:.1f} s")

    def _until_ended(self, job: str) -> None:
        name = self.containers(job)[0]
        self._until(f"{job} ended", lambda: self._engine.inspect(name)["State"]["Status"] == "exited")
        code = self._engine.inspect(name)["State"]["ExitCode"]
        if code != 0:
            raise EngineError(f"{job} ended with {code}:\n{self.logs(job)}")

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise EngineError(f"Not within {PATIENCE:.0f} s: {what}.\n{self._everything()}")
            time.sleep(POLL)

    def _everything(self) -> str:
        states = self._engine.call("ps", "--all", "--format", "{{.Names}} {{.Status}}", check=False).stdout
        return states + "\n".join(f"-- {name}\n{self.logs(name)}" for name in self.services)

    def _compose(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        tool = str(Path(sys.executable).with_name("podman-compose"))
        # Beside a read-only root Podman lets /run and /var/tmp be written, which compose.yaml and Docker do not.
        only_ours = "--podman-run-args=--read-only-tmpfs=false"
        command = [tool, "--project-name", PROJECT, "--file", str(self._file), only_ours, *arguments]
        return self._engine.run(command, timeout=PATIENCE, check=check, cwd=self._file.parent)


def _adapt(document: dict[str, Any], *, cluster: bool) -> None:
    """Changes what depends on this machine: absolute paths, no `start_interval`, no other profile; the rest stays."""
    document["name"] = PROJECT
    chosen = {"cluster"} if cluster else set[str]()
    profiled = [name for name, service in document["services"].items() if set(service.get("profiles", ())) - chosen]
    for name in profiled:
        del document["services"][name]
    for service in document["services"].values():
        service.get("healthcheck", {}).pop("start_interval", None)
        service.pop("build", None)
        service.pop("profiles", None)
        for name in profiled:
            service.get("depends_on", {}).pop(name, None)
        service["volumes"] = [
            f"{ROOT}/{volume.removeprefix('./')}" if volume.startswith("./") else volume
            for volume in service.get("volumes", [])
        ]
        if service["image"] == "footfall:local":
            service["image"] = "localhost/footfall:local"
