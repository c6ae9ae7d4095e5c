"""Calls Podman, and checks that this machine has what it needs."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# With these limits, Debian's podman with runc also runs in a sandbox without systemd and with few rights.
SETTINGS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""

TOOLS = ("podman", "runc", "debootstrap", "catatonit", "iptables")
PACKAGES = "podman buildah runc netavark aardvark-dns iptables catatonit debootstrap"


class EngineError(Exception):
    """A container command failed; the text says which and how."""


def obstacles() -> list[str]:
    """Returns a sentence for each reason why containers cannot be run here; empty if they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    found = []
    if os.geteuid() != 0:
        found.append("It needs root, to make networks and base images.")
    if missing:
        found.append(f"Not installed: {', '.join(missing)}. On Debian: apt-get install {PACKAGES}")
    return found


class Engine:
    """Runs Podman commands. `home`: directory for its configuration."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        settings = home / "containers.conf"
        settings.write_text(SETTINGS)
        self.environment = os.environ | {"CONTAINERS_CONF": str(settings)}
        self._home = home

    def call(self, *arguments: str, timeout: float = 60.0, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs `podman ..`. `timeout`: seconds. Raises EngineError if it fails, unless `check` is False."""
        return self.run(["podman", *arguments], timeout=timeout, check=check)

    def run(
        self, command: Sequence[str], *, timeout: float, check: bool = True, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command in Podman's environment."""
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, env=self.environment, cwd=cwd
        )
        if check and result.returncode != 0:
            tail = "\n".join((result.stdout + result.stderr).splitlines()[-25:])
            raise EngineError(f"{' '.join(command[:4])} .. ended with {result.returncode}:\n{tail}")
        return result

    def has_image(self, name: str) -> bool:
        """Whether the image exists on this machine."""
        return self.call("image", "exists", name, check=False).returncode == 0

    def inspect(self, container: str) -> dict[str, Any]:
        """Returns Podman's description of a container; empty if there is no such container."""
        result = self.call("container", "inspect", container, check=False)
        return dict(json.loads(result.stdout)[0]) if result.returncode == 0 else {}

    def inspect_network(self, name: str) -> dict[str, Any]:
        """Returns Podman's description of a network. Raises EngineError if there is no such network."""
        return dict(json.loads(self.call("network", "inspect", name).stdout)[0])

    def healthy(self, container: str) -> bool:
        """Runs the container's health check once; without systemd, Podman does not do that by itself."""
        return self.call("healthcheck", "run", container, check=False).returncode == 0
