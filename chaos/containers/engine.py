"""Podman on this machine: what it needs, and its calls."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Debian's podman with runc runs in a sandbox without systemd and with few rights, given these limits.
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
    """Why containers cannot be run here, as sentences; empty when they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    found = []
    if os.geteuid() != 0:
        found.append("It needs root, to make networks and base images.")
    if missing:
        found.append(f"Not installed: {', '.join(missing)}. On Debian: apt-get install {PACKAGES}")
    return found


class Engine:
    """Podman's calls. `home`: where its configuration and the outputs of long calls are kept."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        settings = home / "containers.conf"
        settings.write_text(SETTINGS)
        self.environment = os.environ | {"CONTAINERS_CONF": str(settings)}
        self._home = home

    def call(self, *arguments: str, timeout: float = 60.0, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs `podman ..`. `timeout`: seconds. Raises EngineError unless it succeeds, or `check` is False."""
        return self.run(["podman", *arguments], timeout=timeout, check=check)

    def run(
        self, command: Sequence[str], *, timeout: float, check: bool = True, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs any command in podman's environment."""
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, env=self.environment, cwd=cwd
        )
        if check and result.returncode != 0:
            tail = "\n".join((result.stdout + result.stderr).splitlines()[-25:])
            raise EngineError(f"{' '.join(command[:4])} .. ended with {result.returncode}:\n{tail}")
        return result

    def has_image(self, name: str) -> bool:
        """Whether the image is here."""
        return self.call("image", "exists", name, check=False).returncode == 0

    def inspect(self, container: str) -> dict[str, Any]:
        """What podman knows of a container; empty when there is none of this name."""
        result = self.call("container", "inspect", container, check=False)
        return dict(json.loads(result.stdout)[0]) if result.returncode == 0 else {}

    def healthy(self, container: str) -> bool:
        """Runs the container's own health check once: nobody else does where there is no systemd."""
        return self.call("healthcheck", "run", container, check=False).returncode == 0
