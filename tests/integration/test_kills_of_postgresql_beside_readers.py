"""PostgreSQL's sessions and PostgreSQL itself are killed while clients read: they are told 503, and never 500."""

import os
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests import processes
from tests.own_postgres import own_postgres
from tests.processes import wait_until

KILLS = 44 if os.environ.get("FOOTFALL_LONG") else 6
PATHS = (
    "/events/processed?limit=50",
    "/products/top",
    "/users/u/activity",
    "/events/feed",
    "/activity/hourly",
    "/events/01a20571-8b4b-74c7-b47b-1221bf3a56c1",
)
ALL_SESSIONS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'footfall_query'"


@pytest.mark.timeout(300)
def test_no_kill_of_postgresql_is_a_500(tmp_path: Path) -> None:
    with own_postgres() as postgres:
        side = processes.start("query-side", {"DATABASE_URL": postgres.servers().query_url}, tmp_path / "side.log")
        answers: Counter[int] = Counter()
        over = threading.Event()

        def read(path: str) -> None:
            with httpx.Client(base_url=side.url, timeout=60) as client:
                while not over.is_set():
                    answers[client.get(path).status_code] += 1

        readers = [threading.Thread(target=read, args=(path,)) for path in PATHS]
        for reader in readers:
            reader.start()
        try:
            for kill in range(KILLS):
                before = sum(answers.values())
                wait_until(lambda before=before: sum(answers.values()) > before + 12, 60, "reading")  # type: ignore[misc]
                if kill % 2:
                    postgres.run(ALL_SESSIONS)
                else:
                    postgres.crash()
                wait_until(lambda: httpx.get(f"{side.url}/health/ready").status_code == 200, 60, "it to be back")
        finally:
            over.set()
            for reader in readers:
                reader.join(60)
            side.kill()
        assert set(answers) <= {200, 404, 503}, f"{answers}\n{side.log_text()[-3000:]}"
        assert answers[200] > KILLS
