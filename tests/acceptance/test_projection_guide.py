"""docs/adding-a-projection.md, followed by the letter in a copy of the tree: migrated, run, and its rows checked."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from footfall.local.embedded import spawn_child
from tests.conftest import Footfall
from tests.patience import patient
from tests.ports import free_port
from tests.processes import Process, is_ready, wait_until
from tests.producing import Raw, an_event, processed, produce, record_of, sql, wait_until_processed

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "adding-a-projection.md"
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "bench", "node_modules")
BLOCK = re.compile(r"^```(python|diff) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Expected = Counter[tuple[str, datetime, str]]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

DIFFERENCES = """
import asyncio, os
from tests.drivers.schema_differences import schema_differences
found = asyncio.run(schema_differences(os.environ["DATABASE_URL"]))
assert found == [], found
"""


def follow(guide: str, tree: Path) -> list[str]:
    """Does to the tree what the guide says, block by block; returns the files it touched."""
    latest = max(path.name[:4] for path in (tree / "migrations" / "versions").glob("[0-9]*.py"))
    guide = guide.replace("NEXT", f"{int(latest) + 1:04}").replace("LATEST", latest)
    touched = []
    for kind, name, body in BLOCK.findall(guide):
        path = tree / name
        if kind == "diff":
            edit(path, body)
        else:
            before = path.read_text() + "\n" if path.exists() else ""
            path.write_text(before + body)
        touched.append(name)
    return touched


def edit(path: Path, diff: str) -> None:
    """Applies one hunk: what it removes, and the lines around it, must be there once."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has changed, and the guide has not: {before}"
    path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree in which the guide was followed."""
    copy = tmp_path_factory.mktemp("guide") / "tree"
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    assert len(follow(GUIDE.read_text(), copy)) == 6
    return copy


def in_tree(tree: Path, *command: str, **environment: str) -> None:
    run = subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env={**os.environ, "ENVIRONMENT": "test", "PYTHONPATH": str(tree), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(100),
    )
    assert run.returncode == 0, run.stdout + run.stderr


def views(count: int) -> tuple[list[Raw], Expected]:
    """Views of three referrers, a day and a half of them; and what the projection must make of them."""
    records, expected = [], Expected()
    for n in range(count):
        referrer, time = ("search", "mail", "größe")[n % 3], NOON + timedelta(minutes=n % 1080)
        records.append(record_of(an_event(f"user-{n % 20}", {"referrer": referrer}, timestamp=time)))
        expected["default", time.replace(hour=0, minute=0), referrer] += 1
    records += [
        record_of(an_event("user-1", {"referrer": referrer}, event_type=kind, timestamp=NOON))
        for referrer, kind in [(7, "PRODUCT_VIEW"), ("", "PRODUCT_VIEW"), ("x" * 257, "PRODUCT_VIEW"), ("a", "LOGIN")]
    ]
    return records, expected


@pytest.fixture
def history(footfall: Footfall) -> Expected:
    """Events from before the projection, processed by the projector of the release before."""
    records, expected = views(200)
    produce(footfall, records)
    old = footfall.start("projector")
    wait_until_processed(footfall, len(records))
    assert old.terminate() == 0
    return expected


@pytest.fixture
def projector(tree: Path, history: Expected, footfall: Footfall, tmp_path: Path) -> Iterator[Process]:
    """The copy's projector, on a database with a history that the copy migrated."""
    in_tree(tree, "-m", "footfall", "migrate", DATABASE_URL=footfall.servers.admin_url)
    port, log = free_port(), tmp_path / "projector.log"
    settings = {"DATABASE_URL": footfall.servers.projector_url, "ENVIRONMENT": "test", "PYTHONPATH": str(tree)}
    popen = spawn_child(
        [sys.executable, "-m", "footfall", "projector", "--port", str(port)],
        death_signal=signal.SIGKILL,
        env={**os.environ, **footfall.environment(), **settings},
        log_path=log,
        cwd=tree,
    )
    process = Process(popen, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(lambda: is_ready(process), 30, "the copy's projector to be ready")
        yield process
    finally:
        process.kill()


def counted(footfall: Footfall) -> dict[tuple[str, datetime, str], int]:
    stored = sql(footfall.servers, "SELECT * FROM read.referrer_daily")
    return {(row["tenant_id"], row["day"], row["referrer"]): row["views"] for row in stored}


def test_the_guide_leads_to_a_projection_that_counts(
    tree: Path, history: Expected, footfall: Footfall, projector: Process
) -> None:
    few, first = views(60)  # one statement
    done = processed(footfall)
    produce(footfall, few)
    wait_until_processed(footfall, done + len(few))
    many, more = views(3_000)  # COPY
    produce(footfall, [*many, *many[:500]])  # some events twice
    wait_until_processed(footfall, done + len(few) + len(many) + 500)
    assert counted(footfall) == first + more  # what came, not what had come before

    for command in re.findall(r"^    footfall (rebuild .*?)(?: +#.*)?$", GUIDE.read_text(), re.MULTILINE):
        environment = {**footfall.environment(), "DATABASE_URL": footfall.servers.admin_url}
        in_tree(tree, "-m", "footfall", *command.split(), **environment)
    assert counted(footfall) == history + first + more
    assert projector.terminate() == 0


def test_migration_and_declaration_agree_and_the_migration_can_be_undone(tree: Path, footfall: Footfall) -> None:
    url = footfall.servers.admin_url
    in_tree(tree, "-m", "footfall", "migrate", DATABASE_URL=url)
    in_tree(tree, "-c", DIFFERENCES, DATABASE_URL=url)
    in_tree(tree, "-m", "alembic", "downgrade", "-1", DATABASE_URL=url)
    assert not sql(footfall.servers, "SELECT FROM pg_class WHERE relname = 'referrer_daily'")
    in_tree(tree, "-m", "alembic", "upgrade", "head", DATABASE_URL=url)


def test_the_guides_own_test_passes_and_its_code_is_as_strict_as_ours(tree: Path) -> None:
    in_tree(tree, "-m", "pytest", "-q", "tests/unit/test_referrer_daily.py", "tests/unit/test_projections_folds.py")
    ruff = Path(sys.executable).with_name("ruff")
    for arguments in (["check"], ["format", "--check"]):
        changed = ["projector/projections", "migrations", "read_model", "tests/unit/test_referrer_daily.py"]
        run = subprocess.run([ruff, *arguments, *changed], cwd=tree, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout
    in_tree(tree, "-m", "mypy", "projector/projections", "read_model", "tests/unit/test_referrer_daily.py")
