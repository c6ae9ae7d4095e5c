"""The OpenAPI documents become clients that compile, post, page and read: those of the generators that people use."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.foreign_clients import INSTALLED, SOURCES, needed
from tests.patience import patient

DOCUMENTS = {name: ROOT / "docs" / "openapi" / f"{name}-side.json" for name in ("command", "query")}
GENERATED = SOURCES / "generated"
TOOLS = INSTALLED / "venv" / "bin"
LONG = bool(os.environ.get("FOOTFALL_LONG"))
WITHIN = patient(300)  # seconds to generate, to compile, or to run a client


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


# What openapi-generator is told for each language; `{name}` is `commands` or `queries`.
LANGUAGES: dict[str, dict[str, str]] = {
    "python": {"packageName": "{name}_client"},
    "go": {"packageName": "{name}", "withGoMod": "false"},
    "typescript-fetch": {},
}
JAVA_PACKAGES = {
    "invokerPackage": "client.{name}",
    "apiPackage": "client.{name}.api",
    "modelPackage": "client.{name}.model",
}
if LONG:
    LANGUAGES["java"] = {"library": "native", "artifactId": "{name}", **JAVA_PACKAGES}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """openapi-generator's clients: for each language a folder with `commands` and `queries`, made by one JVM."""
    needed("generators")
    home = tmp_path_factory.mktemp("generated")
    wanted = [
        configuration(home, language, name, document)
        for language in LANGUAGES
        for name, document in zip(("commands", "queries"), DOCUMENTS.values(), strict=True)
    ]
    quick = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
    run(TOOLS / "openapi-generator-cli", "batch", "--fail-fast", "--threads", "1", *wanted, cwd=home, **quick)
    return home


def configuration(home: Path, language: str, name: str, document: Path) -> Path:
    """A file that tells openapi-generator to make one client."""
    options = {key: value.format(name=name) for key, value in LANGUAGES[language].items()}
    told = {"generatorName": language, "inputSpec": str(document), "outputDir": str(home / language / name)}
    path = home / f"{language}-{name}.json"
    path.write_text(json.dumps(told | ({"additionalProperties": options} if options else {})))
    return path


def expected(printed: str) -> None:
    assert printed.strip().endswith("['PRODUCT_VIEW', 'LOGOUT']"), printed


def test_openapi_python_client(sides: tuple[str, str], tmp_path: Path) -> None:
    needed("generators")
    for name, document in DOCUMENTS.items():
        run(TOOLS / "openapi-python-client", "generate", "--path", document, "--output-path", name, cwd=tmp_path)
    path = os.pathsep.join(str(tmp_path / name) for name in DOCUMENTS)
    program = GENERATED / "openapi_python_client.py"
    expected(run(TOOLS / "python", program, *sides, "user of openapi-python-client", cwd=tmp_path, PYTHONPATH=path))


def test_openapi_generator_for_python(sides: tuple[str, str], generated: Path, tmp_path: Path) -> None:
    path = os.pathsep.join(str(generated / "python" / name) for name in ("commands", "queries"))
    program = GENERATED / "openapi_generator.py"
    expected(run(TOOLS / "python", program, *sides, "user of openapi-generator", cwd=tmp_path, PYTHONPATH=path))


def test_openapi_generator_for_go(sides: tuple[str, str], generated: Path) -> None:
    needed("go")
    here = generated / "go"
    shutil.copy(GENERATED / "main.go", here)
    for name in ("commands", "queries"):
        shutil.rmtree(here / name / "test", ignore_errors=True)
        (here / name / "go.mod").write_text(f"module example.com/{name}\n\ngo 1.21\n")
    local = "".join(
        f"require example.com/{name} v0.0.0\nreplace example.com/{name} => ./{name}\n"
        for name in ("commands", "queries")
    )
    (here / "go.mod").write_text(f"module example.com/client\n\ngo 1.21\n\n{local}")
    for place in (here / "commands", here / "queries", here):
        run("go", "mod", "tidy", cwd=place)
    run("go", "build", "-o", "client", ".", cwd=here)
    expected(run(here / "client", *sides, "user of Go", cwd=here))


def test_openapi_generator_for_typescript(sides: tuple[str, str], generated: Path) -> None:
    needed("node")
    here = generated / "typescript-fetch"
    shutil.copy(GENERATED / "client.ts", here)
    compiler = INSTALLED / "node_modules" / ".bin" / "tsc"
    strict = ("--strict", "--skipLibCheck", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom")
    run(compiler, *strict, "--outDir", "out", "client.ts", cwd=here)
    expected(run("node", "out/client.js", *sides, "user of TypeScript", cwd=here))


def test_openapi_typescript_types_compile(tmp_path: Path) -> None:
    needed("node")
    tools = INSTALLED / "node_modules" / ".bin"
    for name, document in DOCUMENTS.items():
        run(tools / "openapi-typescript", document, "--output", f"{name}.ts", cwd=tmp_path)
    run(tools / "tsc", "--strict", "--skipLibCheck", "--noEmit", *(f"{name}.ts" for name in DOCUMENTS), cwd=tmp_path)


@pytest.mark.skipif(not LONG, reason="FOOTFALL_LONG: Maven fetches its plugins")
def test_openapi_generator_for_java(sides: tuple[str, str], generated: Path) -> None:
    needed("java")
    here = generated / "java"
    maven = ("mvn", "--quiet", "--batch-mode", "-Dmaven.test.skip=true")
    for name in ("commands", "queries"):
        run(*maven, "compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath", cwd=here / name)
    found = [here / name / "target" / "classes" for name in ("commands", "queries")]
    classpath = os.pathsep.join([*map(str, found), (here / "commands" / "classpath").read_text()])
    expected(run("java", "-cp", classpath, GENERATED / "Client.java", *sides, "user of Java", cwd=here))
