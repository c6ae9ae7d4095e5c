"""Writes what a release is made of: build/sbom.cdx.json (CycloneDX 1.5) and build/licences.md.

Packages come from uv.lock by `uv export`, the embedded Kafka's jars from their pins. Run it as `make sbom`.
"""

import argparse
import json
import re
import subprocess
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from footfall.local.embedded.kafka.jars import Pin, ensure_kafka_jars, read_pins

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("embedded", "s3", "duckdb")  # what `make` and the image install
# What the POM beside the jar says, at Maven Central, where the jar itself says nothing.
STATED_BESIDE = {
    "com.dynatrace.hash4j/hash4j": "Apache-2.0",
    "com.google.re2j/re2j": "BSD-3-Clause (Go License)",
    "com.yammer.metrics/metrics-core": "Apache-2.0",
    "org.pcollections/pcollections": "MIT",
    "org.slf4j/slf4j-api": "MIT",
    "org.slf4j/slf4j-simple": "MIT",
}
NOT_STATED = "not stated in the file"


def sbom(uv: str) -> dict[str, Any]:
    """Returns the document: the packages as uv exports them, and the jars."""
    command = [
        uv,
        "export",
        "--quiet",
        "--frozen",
        "--no-dev",
        *(part for extra in EXTRAS for part in ("--extra", extra)),
        "--format",
        "cyclonedx1.5",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(found.stdout)
    document["components"] += [component_of(pin) for pin in read_pins()]
    return document


def component_of(pin: Pin) -> dict[str, Any]:
    purl = f"pkg:maven/{pin.group}/{pin.artifact}@{pin.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "group": pin.group,
        "name": pin.artifact,
        "version": pin.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
    }


def licence_of_package(name: str) -> str:
    """Returns what the installed distribution says of itself; it need not be installed on this system."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "not installed here"
    classifiers = [line.rpartition(" :: ")[2] for line in found.get_all("Classifier") or [] if "License ::" in line]
    text = found["License-Expression"] or ", ".join(classifiers) or (found["License"] or "").partition("\n")[0]
    return text or NOT_STATED


def licence_of_jar(jar: Path) -> str:
    """Returns the licences that the POM inside the jar, or its manifest, names."""
    with zipfile.ZipFile(jar) as archive:
        poms = [name for name in archive.namelist() if re.fullmatch(r"META-INF/maven/.*/pom\.xml", name)]
        text = archive.read(poms[0]).decode() if len(poms) == 1 else ""
        found = re.findall(r"<license>.*?<name>\s*(.*?)\s*</name>", text, re.DOTALL)
        manifest = archive.read("META-INF/MANIFEST.MF").decode().replace("\r\n ", "").replace("\n ", "")
        texts = [
            archive.read(name) for name in archive.namelist() if re.fullmatch(r"(META-INF/)?LICENSE(\.txt)?", name)
        ]
    if not found and any(b"Apache License" in text and b"Version 2.0" in text for text in texts):
        return "Apache-2.0"
    named = re.search(r"^Bundle-License: *(.+?)\s*$", manifest, re.MULTILINE)
    return ", ".join(found) or (named[1] if named else NOT_STATED)


def licences(document: dict[str, Any]) -> str:
    """Returns the list as a Markdown table."""
    jars = ensure_kafka_jars(Console(stderr=True))
    rows = [("component", "version", "licence"), ("---", "---", "---")]
    for component in sorted(document["components"], key=lambda each: (each["purl"].partition("/")[0], each["name"])):
        name, version = component["name"], component["version"]
        is_jar = component["purl"].startswith("pkg:maven/")
        licence = licence_of_jar(jars / f"{name}-{version}.jar") if is_jar else licence_of_package(name)
        if licence == NOT_STATED and is_jar:
            licence = STATED_BESIDE.get(f"{component['group']}/{name}", NOT_STATED)
        rows.append((name, version, licence.replace("|", "/")))
    return "# Licences\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", default="uv", help="the program uv")
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    document = sbom(parser.parse_args().uv)
    (build / "sbom.cdx.json").write_text(json.dumps(document, indent=1) + "\n")
    (build / "licences.md").write_text(licences(document))
    Console().print(f"{len(document['components'])} components: build/sbom.cdx.json, build/licences.md")


if __name__ == "__main__":
    main()
