"""The OpenAPI documents become clients that compile, post, page and read: those of the generators that people use."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.foreign_clients import INSTALLED, SOURCES, needed
from tests.patience import PATIENCE

DOCUMENTS = {name: ROOT / "docs" / "openapi" / f"{name}-side.json" for name in ("command", "query")}
GENERATED = SOURCES / "generated"
TOOLS = INSTALLED / "venv" / "bin"
LONG = bool(os.environ.get("FOOTFALL_LONG"))
WITHIN = max(PATIENCE, 300)  # seconds to generate, to compile, or to run a client


@pytest.fixture(scope="module")
def sides(shared_footfall: Footfall) -> tuple[str, str]:
    command = shared_footfall.start("command-side", ready=False)
    query = shared_footfall.start("query-side", ready=False)
    shared_footfall.start("projector")
    return command.url, query.url


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What it prints; fails with it unless it succeeds."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def generate(language: str, scratch: Path, **options: str) -> None:
    """openapi-generator's client of each side, in `commands` and `queries`; `{name}` in an option is one of these."""
    needed("generators")
    for name, document in zip(("commands", "queries"), DOCUMENTS.values(), strict=True):
        given = ",".join(f"{key}={value.format(name=name)}" for key, value in options.items())
        more = [f"--additional-properties={given}"] if given else []
        run(TOOLS / "openapi-generator-cli", "generate", "-i", document, "-g", language, "-o", name, *more, cwd=scratch)


def expected(printed: str) -> None:
    assert printed.strip().endswith("['PRODUCT_VIEW', 'LOGOUT']"), printed


def test_openapi_python_client(sides: tuple[str, str], tmp_path: Path) -> None:
    needed("generators")
    for name, document in DOCUMENTS.items():
        run(TOOLS / "openapi-python-client", "generate", "--path", document, "--output-path", name, cwd=tmp_path)
    path = os.pathsep.join(str(tmp_path / name) for name in DOCUMENTS)
    program = GENERATED / "openapi_python_client.py"
    expected(run(TOOLS / "python", program, *sides, "user of openapi-python-client", cwd=tmp_path, PYTHONPATH=path))


def test_openapi_generator_for_python(sides: tuple[str, str], tmp_path: Path) -> None:
    generate("python", tmp_path, packageName="{name}_client")
    path = os.pathsep.join(str(tmp_path / name) for name in ("commands", "queries"))
    program = GENERATED / "openapi_generator.py"
    expected(run(TOOLS / "python", program, *sides, "user of openapi-generator", cwd=tmp_path, PYTHONPATH=path))


def test_openapi_generator_for_go(sides: tuple[str, str], tmp_path: Path) -> None:
    needed("go")
    generate("go", tmp_path, packageName="{name}", withGoMod="false")
    shutil.copy(GENERATED / "main.go", tmp_path)
    for name in ("commands", "queries"):
        shutil.rmtree(tmp_path / name / "test", ignore_errors=True)
        (tmp_path / name / "go.mod").write_text(f"module example.com/{name}\n\ngo 1.21\n")
    local = "".join(
        f"require example.com/{name} v0.0.0\nreplace example.com/{name} => ./{name}\n"
        for name in ("commands", "queries")
    )
    (tmp_path / "go.mod").write_text(f"module example.com/client\n\ngo 1.21\n\n{local}")
    for place in (tmp_path / "commands", tmp_path / "queries", tmp_path):
        run("go", "mod", "tidy", cwd=place)
    run("go", "build", "-o", "client", ".", cwd=tmp_path)
    expected(run(tmp_path / "client", *sides, "user of Go", cwd=tmp_path))


def test_openapi_generator_for_typescript(sides: tuple[str, str], tmp_path: Path) -> None:
    needed("node")
    generate("typescript-fetch", tmp_path)
    shutil.copy(GENERATED / "client.ts", tmp_path)
    compiler = INSTALLED / "node_modules" / ".bin" / "tsc"
    strict = ("--strict", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom")
    run(compiler, *strict, "--outDir", "out", "client.ts", cwd=tmp_path)
    expected(run("node", "out/client.js", *sides, "user of TypeScript", cwd=tmp_path))


def test_openapi_typescript_types_compile(tmp_path: Path) -> None:
    needed("node")
    tools = INSTALLED / "node_modules" / ".bin"
    for name, document in DOCUMENTS.items():
        run(tools / "openapi-typescript", document, "--output", f"{name}.ts", cwd=tmp_path)
        run(tools / "tsc", "--strict", "--noEmit", f"{name}.ts", cwd=tmp_path)


@pytest.mark.skipif(not LONG, reason="FOOTFALL_LONG: Maven fetches its plugins")
def test_openapi_generator_for_java_compiles(tmp_path: Path) -> None:
    needed("java")
    generate("java", tmp_path, library="native", artifactId="{name}")
    for name in ("commands", "queries"):
        run("mvn", "--quiet", "--batch-mode", "-Dmaven.test.skip=true", "compile", cwd=tmp_path / name)
