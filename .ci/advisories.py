"""Compares what is locked with published advisories. Exits 1 if a locked version has one.

Without an option it needs no network: it uses .ci/advisories.json, a snapshot of PyPA's advisory database for the
packages that are locked. It knows nothing that is younger, and no jars. `--online` asks osv.dev about every component
of the SBOM, jars too, and is what the workflow runs.

    make advisories                                    offline
    make advisories ARGS=--online                      by osv.dev
    .venv/bin/python .ci/advisories.py --snapshot DIR   from a clone of github.com/pypa/advisory-database
"""

import argparse
import json
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

from packaging.version import Version
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOT = Path(__file__).with_name("advisories.json")
OSV = "https://api.osv.dev/v1/querybatch"
# Advisories that do not touch us, each with the reason.
ACCEPTED: dict[str, str] = {}

Advisory = dict[str, Any]


def locked() -> dict[str, str]:
    """Returns the version of each locked package."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in packages if "editable" not in package["source"]}


def is_affected(version: str, advisory: Advisory) -> bool:
    """Whether the version is within one of the advisory's ranges (OSV schema, evaluation of ECOSYSTEM ranges)."""
    return version in advisory["versions"] or any(within(Version(version), events) for events in advisory["ranges"])


def within(version: Version, events: list[dict[str, str]]) -> bool:
    affected = False
    for event in events:
        [(kind, bound)] = event.items()
        if kind == "introduced" and version >= Version(bound):
            affected = True
        if (kind == "fixed" and version >= Version(bound)) or (kind == "last_affected" and version > Version(bound)):
            affected = False
    return affected


def offline() -> list[str]:
    """Returns a line for each locked version that the snapshot knows an advisory of."""
    versions, snapshot = locked(), json.loads(SNAPSHOT.read_text())
    say(f"snapshot of {snapshot['date']} ({snapshot['commit'][:12]}), {len(snapshot['advisories'])} advisories")
    return [
        f"{found['package']} {versions[found['package']]}: {found['id']}"
        for found in snapshot["advisories"]
        if found["package"] in versions and is_affected(versions[found["package"]], found)
    ]


def online(url: str) -> list[str]:
    """Returns a line for each component of the SBOM that osv.dev knows an advisory of. Raises OSError."""
    components = json.loads((ROOT / "build" / "sbom.cdx.json").read_text())["components"]
    purls = [component["purl"] for component in components if "purl" in component]
    body = json.dumps({"queries": [{"package": {"purl": purl}} for purl in purls]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - of a test
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        results = json.load(answer)["results"]
    if len(results) != len(purls):
        raise OSError(f"{url} answered {len(results)} of {len(purls)} questions")
    return [
        f"{purl}: {found['id']}"
        for purl, result in zip(purls, results, strict=True)
        for found in result.get("vulns", [])
    ]


def take_snapshot(clone: Path) -> None:
    """Writes the snapshot: the advisories of locked packages that were not withdrawn."""
    git = ["git", "-C", str(clone)]
    commit, date = run(*git, "log", "-1", "--format=%H %cs").split()
    found = []
    for name in sorted(locked()):
        for path in run(*git, "ls-tree", "-r", "--name-only", "HEAD", f"vulns/{name}/").split():
            document = YAML(typ="safe").load(run(*git, "show", f"HEAD:{path}"))
            if "withdrawn" not in document:
                found.append(advisory_of(name, document))
    content = {"source": "github.com/pypa/advisory-database", "commit": commit, "date": date, "advisories": found}
    SNAPSHOT.write_text(json.dumps(content, indent=1) + "\n")


def advisory_of(name: str, document: dict[str, Any]) -> Advisory:
    """Returns what the comparison needs of an advisory. Versions are kept where no range says them."""
    affected = [each for each in document["affected"] if each["package"]["name"].lower() == name]
    ranges = [each["events"] for one in affected for each in one.get("ranges", []) if each["type"] == "ECOSYSTEM"]
    versions = [] if ranges else [str(each) for one in affected for each in one.get("versions", [])]
    texts = [[{kind: str(bound) for kind, bound in event.items()} for event in events] for events in ranges]
    return {"id": document["id"], "package": name, "ranges": texts, "versions": versions}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--online", action="store_true", help="ask osv.dev instead of the snapshot")
    parser.add_argument("--url", default=OSV, help="where to ask")
    parser.add_argument("--snapshot", type=Path, metavar="DIR", help="make the snapshot anew")
    options = parser.parse_args()
    if options.snapshot:
        take_snapshot(options.snapshot)
        return
    found = [line for line in (online(options.url) if options.online else offline()) if not is_accepted(line)]
    say("\n".join(found) or "no locked version has an advisory")
    sys.exit(1 if found else 0)


def is_accepted(line: str) -> bool:
    return line.rpartition(": ")[2] in ACCEPTED


if __name__ == "__main__":
    main()
