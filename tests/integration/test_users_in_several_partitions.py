"""Partitions that were added, and producers with librdkafka's own partitioner: a user's sessions are still theirs."""

import json
from datetime import UTC, datetime, timedelta

import confluent_kafka
import httpx
from click.testing import CliRunner

from contracts.event import UserEvent
from contracts.versions import encode_event
from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import an_event, metric, produce, record_of, sql, start_projector, wait_until_processed
from tests.topics import add_partitions

NEW = "read_g2"
USERS = [f"user-{n}" for n in range(12)]
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def acts(kind: str, minute: int) -> list[UserEvent]:
    """One act of each user, in that minute."""
    at = NOON + timedelta(minutes=minute)
    return [an_event(user, {"productId": f"p-{minute}"}, event_type=kind, timestamp=at) for user in USERS]


def produce_by_librdkafka(footfall: Footfall, events: list[UserEvent], **options: str) -> None:
    """As confluent-kafka does it when nothing is said of partitioners: CRC32 of the key."""
    producer = confluent_kafka.Producer({"bootstrap.servers": footfall.servers.kafka, "acks": "all", **options})
    for event in events:
        producer.produce(footfall.topic, encode_event(event), event.user_id.encode())
    assert producer.flush(60) == 0


def footfall_command(footfall: Footfall, *arguments: str) -> str:
    """`footfall <arguments>` as the owner of the database runs it; returns what it prints."""
    role = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.admin_url, "COLUMNS": "200"}
    run = CliRunner().invoke(cli, arguments, env={**role, **footfall.environment()})
    assert run.exit_code == 0, f"{run.output}{run.exception!r}"
    return run.output


def sessions(footfall: Footfall) -> list[tuple[str, str | None, int, list[str]]]:
    rows = sql(footfall.servers, "SELECT * FROM read.user_sessions ORDER BY user_id, started_at")
    return [(row["user_id"], row["ended_by"], row["views"], row["products"]) for row in rows]


def scattered(footfall: Footfall) -> int:
    counted = "SELECT user_id FROM read_g1.user_activity GROUP BY user_id HAVING count(*) > 1"
    return len(sql(footfall.servers, counted))


def test_sessions_end_though_partitions_came_or_librdkafka_logged_out(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    produce(footfall, map(record_of, acts("LOGIN", 0)))
    produce_by_librdkafka(footfall, acts("PRODUCT_VIEW", 1), partitioner="murmur2_random")
    wait_until_processed(footfall, 24, 60)
    assert (scattered(footfall), metric(projector, "records_misplaced_total")) == (0, 0)

    produce_by_librdkafka(footfall, acts("LOGOUT", 2))  # another partitioner
    wait_until_processed(footfall, 36, 60)
    elsewhere = scattered(footfall)
    assert elsewhere > 0
    assert sessions(footfall) == [(user, "LOGOUT", 1, ["p-1"]) for user in sorted(USERS)]
    wait_until(lambda: metric(projector, "records_misplaced_total") == elsewhere, 60, "the count of them")
    told = json.loads(footfall_command(footfall, "status", "--json"))["misplaced"]
    assert (told["latest"], told["misplaced"]) == (36, elsewhere)

    projector.terminate()
    produce(footfall, map(record_of, acts("LOGIN", 3)))
    partitions = len({row["partition"] for row in sql(footfall.servers, "SELECT partition FROM read_g1.checkpoints")})
    add_partitions(footfall, partitions + 5)
    produce(footfall, [*map(record_of, acts("PRODUCT_VIEW", 4)), *map(record_of, acts("LOGOUT", 5))])
    start_projector(footfall)
    wait_until_processed(footfall, 72, 60)
    assert scattered(footfall) >= elsewhere
    both = [("LOGOUT", 1, ["p-1"]), ("LOGOUT", 1, ["p-4"])]
    assert sessions(footfall) == [(user, *session) for user in sorted(USERS) for session in both]

    side = footfall.start("query-side")
    for user in USERS:
        shown = httpx.get(f"{side.url}/users/{user}/sessions", timeout=PATIENCE).json()
        assert [(one["endedBy"], one["products"], one["seconds"]) for one in shown] == [
            ("LOGOUT", ["p-4"], 120.0),
            ("LOGOUT", ["p-1"], 120.0),
        ]
        assert httpx.get(f"{side.url}/users/{user}/activity", timeout=PATIENCE).json()["loggedIn"] is False

    # A rebuild reads each partition by itself, in any order, and comes to the same.
    footfall_command(footfall, "rebuild", "start")
    assert json.loads(footfall_command(footfall, "rebuild", "verify", "--json"))["equal"] is True
    footfall_command(footfall, "rebuild", "promote")
    assert sessions(footfall) == [(user, *session) for user in sorted(USERS) for session in both]
