"""A real nginx with the configuration that is shipped, before a process of this machine."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from footfall.local.embedded import spawn_child
from tests.architecture.repository import ROOT
from tests.foreign_clients import needed
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until


@contextmanager
def nginx_before(side: str, scratch: Path, tls: tuple[int, Path] | None = None) -> Iterator[str]:
    """Yields the URL of an nginx whose upstreams are both the process at `side`.

    `tls`: a port at which nginx ends TLS, too, and a directory with `fullchain.pem` and `key.pem`.
    """
    needed("nginx")
    program, port = shutil.which("nginx"), free_port()
    assert program is not None
    found, log = scratch / "nginx.conf", scratch / "nginx.log"
    found.write_text(for_here((ROOT / "deploy" / "nginx.conf").read_text(), httpx.URL(side), port, scratch, tls))
    rights = "user root; " if os.geteuid() == 0 else ""
    errors = ["-e", str(scratch / "error.log")]
    command = [program, "-c", str(found), "-p", str(scratch), *errors, "-g", f"{rights}daemon off;"]
    popen = spawn_child(command, death_signal=signal.SIGTERM, log_path=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: popen.poll() is None and listens(url), 30, f"nginx: {log.read_text()}")
        yield url
    finally:
        popen.terminate()
        popen.wait(PATIENCE)


def for_here(shipped: str, side: httpx.URL, port: int, scratch: Path, tls: tuple[int, Path] | None) -> str:
    """The same configuration, with addresses of this machine instead of those of containers."""
    here = re.sub(r"server (command|query)-side:\d+ resolve", f"server {side.host}:{side.port}", shipped)
    here = re.sub(r"\n *include /tmp/resolver[^\n]*", "", here)
    here = here.replace("listen 3000;", f"listen 127.0.0.1:{port};").replace("/tmp/", f"{scratch}/")
    if tls is not None:
        tls_port, files = tls
        listening = (ROOT / "deploy" / "nginx-tls.conf").read_text().replace("/etc/nginx/tls/", f"{files}/")
        (files / "listen.conf").write_text(listening.replace("listen 3443", f"listen 127.0.0.1:{tls_port}"))
        here = here.replace("/etc/nginx/tls/*.conf", f"{files}/listen.conf")
    assert "resolve" not in re.sub("#.*", "", here).replace(str(scratch), "")
    return here


def listens(url: str) -> bool:
    """Whether nginx answers."""
    try:
        return httpx.get(f"{url}/health/front").status_code == 200
    except httpx.TransportError:
        return False
