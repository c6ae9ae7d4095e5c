"""A database whose schema is behind the code, or ahead of it: named by readiness and status, and never a 500."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
from alembic.config import Config
from alembic.script import ScriptDirectory

from read_model.tables.schema_version import newest_migration
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
QUERIES = ("/events/processed", "/products/top", "/users/u/activity", "/events/feed", "/activity/hourly")


def on(footfall: Footfall, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(footfall.servers.admin_url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def detail(url: str) -> tuple[int, str]:
    ready = httpx.get(f"{url}/health/ready", timeout=PATIENCE)
    return ready.status_code, ready.json()["dependencies"]["postgres"]["detail"]


def test_the_schema_that_is_needed_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    assert newest_migration() == ScriptDirectory.from_config(config).get_current_head()


def test_a_schema_behind_or_ahead_is_named_by_readiness_and_status_and_answers_no_500(footfall: Footfall) -> None:
    query, projector = footfall.start("query-side"), footfall.start("projector")
    before = newest_migration()
    on(footfall, "UPDATE footfall_migrations SET version_num = '9999'")
    for process in (query, projector):
        assert detail(process.url) == (
            200, f"the database's schema is at 9999, ahead of this version, which knows {before}",
        )  # fmt: skip
    on(footfall, "UPDATE footfall_migrations SET version_num = '0001'; DROP SCHEMA read CASCADE")
    for process in (query, projector):
        wait_until(lambda process=process: detail(process.url)[0] == 503, 60, "it not to be ready")  # type: ignore[misc]
        assert (
            f"is at 0001, behind this version, which needs {before}: run `footfall migrate`" in detail(process.url)[1]
        )
    for path in QUERIES:
        answer = httpx.get(f"{query.url}{path}", timeout=PATIENCE)
        assert answer.status_code == 503, answer.text
        assert "schema" in answer.json()["error"]
    environment = {**footfall.environment(), "DATABASE_URL": footfall.servers.projector_url, "ENVIRONMENT": "test"}
    run = subprocess.run(
        [sys.executable, "-m", "footfall", "status", "--json"],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
