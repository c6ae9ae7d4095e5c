"""Clients, proxies and a pooler of other people, as they are here; a run's header names those that are not."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import pytest

from footfall.local.embedded.paths import cache_root
from tests.patience import patient

SOURCES = Path(__file__).parent / "foreign"
INSTALLED = cache_root() / "foreign-clients"  # npm's packages: fetched once
NPM_PACKAGES = (
    "eventsource@4.1.1",
    "event-source-polyfill@1.0.31",
    "kafkajs@2",
    "openapi-typescript@7",
    "typescript@5",
)
# Programs that the clients need which are fetched only when a test asks for them, and podman.
LOOKED_FOR = (
    ("kafkajs, EventSource, openapi-typescript", ("node", "npm")),
    ("openapi-generator", ("java",)),
    ("its Java client", ("java", "mvn")),
    ("containers", ("podman",)),
)
ASK_WITHIN = patient(20)  # seconds for a tool to say what it can
FETCH_WITHIN = patient(300)  # seconds
# The generators, and what the clients that they make import.
HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
KUBERNETES_SCHEMAS = "kubernetes-validate==1.37.0"  # Kubernetes's JSON schemas, as a package
# Go modules with definitions of custom resources, and where they are.
CUSTOM_RESOURCES = {
    "github.com/cloudnative-pg/cloudnative-pg@v1.28.0": "config/crd/bases",
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases",
    "sigs.k8s.io/gateway-api@v1.6.3": "config/crd/standard",
}
BUILD_WITHIN = patient(1_200)  # seconds
# Engines of analysts, each in an environment of its own. Spark's package is 430 MB.
ENGINES = {"iceberg": ("pyiceberg[pyarrow,sql-sqlite]==0.12.0",), "spark": ("setuptools", "pyspark==4.3.0")}
GENERATORS = (
    "openapi-python-client==0.29.1",
    "openapi-generator-cli==7.26.0",
    "python-dateutil",
    "pydantic",
    "urllib3",
)


@cache
def lacking(client: str) -> str | None:
    """Why a client cannot be used here; None if it can."""
    return {
        "curl": _curl,
        "chromium": _chromium,
        "java": _java,
        "node": _node,
        "nginx": _nginx,
        "haproxy": lambda: _of_debian("haproxy"),
        "apache2": lambda: _of_debian("apache2"),
        "pgbouncer": _pgbouncer,
        "prometheus": _prometheus,
        "rsyslog": _rsyslog,
        "custom resources": _custom_resources,
        "generators": _generators,
        "go": _go,
        "helm": _helm,
        "iceberg": _iceberg,
        "kafka connect": _kafka_connect,
        "spark": _spark,
    }[client]()


def needed(client: str) -> None:
    """Skips the test where the client is lacking."""
    reason = lacking(client)
    if reason is not None:
        pytest.skip(f"{client}: {reason}")


def header() -> str:
    """Who of them is lacking, for the header of a run. Nothing is fetched for it: that takes long."""
    named = (
        "curl",
        "java",
        "go",
        "nginx",
        "haproxy",
        "apache2",
        "pgbouncer",
        "prometheus",
        "rsyslog",
        "chromium",
        "helm",
        "kafka connect",
    )
    found = {name: lacking(name) for name in named}
    found |= {name: None if all(map(shutil.which, programs)) else "not installed" for name, programs in LOOKED_FOR}
    absent = [f"{name} ({reason})" for name, reason in found.items() if reason is not None]
    return f"foreign clients lacking: {', '.join(absent) or 'none'}"


def output(*command: str, within: float = ASK_WITHIN) -> str:
    """What a command prints; empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _curl() -> str | None:
    return None if "HTTP2" in output("curl", "--version") else "no curl with HTTP/2"


def _chromium() -> str | None:
    return None if shutil.which("chromium") else "not installed"


def _java() -> str | None:
    modules = output("java", "--list-modules")
    return None if "jdk.compiler" in modules and "java.net.http" in modules else "no JDK, which launches source files"


def _rsyslog() -> str | None:
    relp = any(Path("/usr/lib").glob("*/rsyslog/omrelp.so"))
    return None if shutil.which("rsyslogd") and relp else "not installed (Debian: apt install rsyslog rsyslog-relp)"


def _prometheus() -> str | None:
    found = shutil.which("prometheus") and shutil.which("promtool")
    return None if found else "not installed (Debian: apt install prometheus)"


def _nginx() -> str | None:
    return None if shutil.which("nginx") else "not installed"


def _of_debian(program: str) -> str | None:
    """Debian puts servers where only root looks."""
    return None if shutil.which(program) or shutil.which(program, path="/usr/sbin") else "not installed"


def _pgbouncer() -> str | None:
    return None if pgbouncer() else "not installed"


def pgbouncer() -> str | None:
    """Where it is: Debian puts it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def _node() -> str | None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no node with npm"
    present = all((INSTALLED / "node_modules" / name.rsplit("@", 1)[0]).is_dir() for name in NPM_PACKAGES)
    install = ("npm", "install", "--no-audit", "--no-fund", "--prefix", str(INSTALLED), *NPM_PACKAGES)
    return None if present or output(*install, within=FETCH_WITHIN) else "npm cannot fetch its packages"


def _go() -> str | None:
    return None if shutil.which("go") else "not installed"


def _generators() -> str | None:
    """In an environment of their own: their libraries are not ours."""
    if shutil.which("java") is None:
        return "no Java, which openapi-generator runs on"
    home = INSTALLED / "venv"
    if (home / "bin" / "openapi-python-client").exists() and (home / "bin" / "openapi-generator-cli").exists():
        return None
    made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, check=False).returncode == 0
    install = (str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *GENERATORS)
    done = made and subprocess.run(install, capture_output=True, check=False, timeout=FETCH_WITHIN).returncode == 0
    return None if done else "pip cannot fetch them"


def helm() -> str | None:
    """Where it is: on PATH, or built from its module."""
    built = INSTALLED / "go" / "helm"
    return shutil.which("helm") or (str(built) if built.exists() else None)


def kubernetes_schemas() -> ZipFile:
    """The JSON schemas of Kubernetes's resources, by version: a package, which is read where it was downloaded."""
    [found] = (INSTALLED / "kubernetes").glob("*.whl")
    return ZipFile(found)


def _helm() -> str | None:
    """Building takes minutes, so only a long run does it."""
    if helm() is None:
        if not os.environ.get("FOOTFALL_LONG") or _go() is not None:
            return "neither installed nor built before (FOOTFALL_LONG=1 and Go build it)"
        environment = {**os.environ, "GOBIN": str(INSTALLED / "go")}
        build = ("go", "install", "-ldflags", "-s -w", HELM)
        done = subprocess.run(build, env=environment, capture_output=True, check=False, timeout=BUILD_WITHIN)
        if done.returncode != 0:
            return "its module cannot be built"
    return None if list((INSTALLED / "kubernetes").glob("*.whl")) or _download_schemas() else "no schemas of Kubernetes"


def python_of(engine: str) -> Path:
    """The interpreter of an engine's environment."""
    return INSTALLED / f"venv-{engine}" / "bin" / "python"


def _iceberg() -> str | None:
    return _engine("iceberg")


def _spark() -> str | None:
    return _engine("spark") if shutil.which("java") else "no Java"


def _engine(engine: str) -> str | None:
    if not os.environ.get("FOOTFALL_LONG"):
        return "FOOTFALL_LONG=1 fetches it"
    home = INSTALLED / f"venv-{engine}"
    if (home / "complete").exists():
        return None
    made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, check=False).returncode == 0
    install = (str(python_of(engine)), "-m", "pip", "install", "--quiet", *ENGINES[engine])
    done = made and subprocess.run(install, capture_output=True, check=False, timeout=BUILD_WITHIN).returncode == 0
    if done:
        (home / "complete").touch()
    return None if done else "pip cannot fetch it"


def custom_resources() -> list[Path]:
    """The files with definitions of custom resources, in Go's cache of modules."""
    home = Path(output("go", "env", "GOMODCACHE").strip())
    return [
        file for module, folder in CUSTOM_RESOURCES.items() for file in sorted((home / module / folder).glob("*.yaml"))
    ]


def _custom_resources() -> str | None:
    if _go() is not None or not os.environ.get("FOOTFALL_LONG"):
        return "FOOTFALL_LONG=1 and Go fetch them"
    fetched = [output("go", "mod", "download", "-json", module, within=FETCH_WITHIN) for module in CUSTOM_RESOURCES]
    return _helm() if all(fetched) else "their modules cannot be fetched"


def _kafka_connect() -> str | None:
    return None if os.environ.get("FOOTFALL_LONG") else "FOOTFALL_LONG=1 fetches and runs it"


def _download_schemas() -> bool:
    home = INSTALLED / "venv-kubernetes"
    made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, check=False).returncode == 0
    fetch = (str(home / "bin" / "python"), "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
    fetched = (*fetch, str(INSTALLED / "kubernetes"), KUBERNETES_SCHEMAS)
    return made and subprocess.run(fetched, capture_output=True, check=False, timeout=FETCH_WITHIN).returncode == 0
