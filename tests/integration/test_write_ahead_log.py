"""The write-ahead log is free of erased users once its segments are done with; PostgreSQL's default keeps them."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.architecture.repository import ROOT
from tests.own_postgres import OwnPostgres, own_postgres

PERSON = re.compile(rb"person-\d{6}")
PEOPLE = 50_000  # whose rows fill several segments
FILL = f"""
    INSERT INTO read_g1.user_activity (tenant_id, user_id, kafka_partition, first_seen, last_seen, logins, logouts,
        product_views, last_product_id)
    SELECT 'default', 'person-' || lpad(n::text, 6, '0'), 0, now(), now(), 0, 0, 0, repeat('x', 200)
    FROM generate_series(1, {PEOPLE}) AS n
"""
ERASE = (
    f"""SELECT ops.erase_users('read_g1', array_fill('default'::text, ARRAY[{PEOPLE}]),
        ARRAY(SELECT user_id FROM read_g1.user_activity), array_fill(0, ARRAY[{PEOPLE}]),
        array_fill(1::bigint, ARRAY[{PEOPLE}]), 't')""",
    "VACUUM read_g1.user_activity",
    "SELECT pg_switch_wal()",  # as archive_timeout does, of a segment that is not full
    "CHECKPOINT",  # as checkpoint_timeout does
)


def people_in_the_log(postgres: OwnPostgres) -> int:
    files = [file.read_bytes() for file in (postgres.cluster.data / "pg_wal").iterdir() if file.is_file()]
    return len({name for text in files for name in PERSON.findall(text)})


@pytest.mark.parametrize("by_default", [False, True], ids=["our settings", "PostgreSQL's default"])
def test_segments_of_the_write_ahead_log_are_gone_after_their_use(by_default: bool) -> None:
    settings: dict[str, Any] = {"wal_recycle": "on"} if by_default else {}
    with own_postgres(**settings) as postgres:
        postgres.run(FILL)
        assert people_in_the_log(postgres) > 0
        postgres.run("CHECKPOINT")
        everything(postgres, ERASE)
        assert postgres.run("SELECT count(*) FROM read_g1.user_activity") == 0
        assert (people_in_the_log(postgres) > 0) == by_default
        told = [postgres.run(f"SHOW {name}") for name in ("wal_recycle", "archive_timeout", "wal_init_zero")]
        assert told == ["on" if by_default else "off", "5min", "on"]


def everything(postgres: OwnPostgres, statements: Sequence[str]) -> None:
    for statement in statements:  # each in a transaction of its own
        postgres.run(statement)


def test_compose_has_the_same_settings() -> None:
    assert "-c wal_recycle=off -c archive_timeout=5min" in (ROOT / "compose.yaml").read_text()
