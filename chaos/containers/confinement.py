"""Compares the containers as they run with compose.yaml, so that a key which podman-compose ignores is noticed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.containers.composition import PROJECT, Composition
from chaos.containers.engine import EngineError

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
NO_PRIVILEGES = "no-new-privileges:true"


def require_confinement(composition: Composition) -> int:
    """Looks at every container and network. Returns how many facts it compared. Raises EngineError if one differs."""
    compared = [*of_networks(composition)]
    for service, asked in composition.services.items():
        for name in composition.containers(service):
            compared += [(f"{name}: {what}", want, have) for what, want, have in of_container(composition, name, asked)]
    differing = [
        f"{what} is {have!r}, and compose.yaml asks for {want!r}" for what, want, have in compared if want != have
    ]
    if differing:
        raise EngineError("\n".join(["Containers are not confined as compose.yaml says:", *differing]))
    return len(compared)


def of_networks(composition: Composition) -> Iterator[tuple[str, object, object]]:
    """Yields whether each network is closed to the outside: name, as asked, as it is."""
    for name, asked in composition.networks.items():
        found = composition.network(f"{PROJECT}_{name}")
        yield f"network {name}: internal", bool(asked.get("internal")), bool(found.get("internal"))


def of_container(composition: Composition, name: str, asked: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yields each fact of a container that its service asks for: name, as asked, as it is."""
    found = composition.description(name)
    host, limits = found["HostConfig"], asked.get("deploy", {}).get("resources", {}).get("limits", {})
    yield "networks", {f"{PROJECT}_{each}" for each in asked["networks"]}, set(found["NetworkSettings"]["Networks"])
    if "memory" in limits:
        yield "memory", in_bytes(limits["memory"]), host["Memory"]
    if "pids" in limits:
        yield "process ids", limits["pids"], host["PidsLimit"]
    if "cpus" in limits:
        yield "processors", float(limits["cpus"]), host["NanoCpus"] / 1e9
    if "user" in asked:
        yield "user", asked["user"], found["Config"]["User"]
    yield "read-only root", asked.get("read_only", False), host["ReadonlyRootfs"]
    if "tmpfs" in asked:
        yield "tmpfs", {each.partition(":")[0] for each in asked["tmpfs"]}, set(host["Tmpfs"])
    if found["State"]["Running"]:
        yield from of_process(found["State"]["Pid"], asked)


def of_process(pid: int, asked: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yields what the kernel says about a container's first process, which is what counts."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if NO_PRIVILEGES in asked.get("security_opt", []):
        yield "no new privileges", "1", status["NoNewPrivs"]
    if asked.get("cap_drop") == ["ALL"]:
        yield "capabilities", 0, int(status["CapBnd"], 16) | int(status["CapEff"], 16)
    if asked.get("read_only"):
        mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        (root,) = [fields[5].split(",") for fields in mounts if fields[4] == "/"]
        yield "root as it is mounted", True, "ro" in root


def in_bytes(size: str) -> int:
    """Returns the number of bytes of a size as compose.yaml has it, such as 512M."""
    return int(size[:-1]) * UNITS[size[-1]]
