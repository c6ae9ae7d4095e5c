"""Who erased whom is one row of the audit log for each user, however the erasure came."""

import json
from typing import Any

import httpx
from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, rebuild, wait_until_done
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import an_event, checkpoints, produce, record_of, sql, start_projector, wait_until_processed

ACTION = "privacy erase"


def ask(footfall: Footfall, *arguments: str, **environment: str) -> str:
    """`footfall <arguments>` as the database's owner; returns what it prints."""
    settings = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.admin_url, **footfall.environment()}
    run = CliRunner().invoke(cli, arguments, env=settings | environment)
    assert run.exit_code == 0, run.output
    return run.stdout.strip()


def listed(footfall: Footfall, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask(footfall, "audit", "list", "--json", "--action", ACTION, *arguments))
    return found[::-1]


def erase(front: Process, path: str, request_id: str, key: str = "", **query: str) -> str:
    """Asks by HTTP; returns the erasure's id."""
    headers = {"X-Request-ID": request_id, **({"Authorization": f"Bearer {key}"} if key else {})}
    answer = httpx.delete(f"{front.url}{path}", params=query or None, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["erasure"]["erasureId"])


def wait_until_applied(footfall: Footfall, erasures: int) -> None:
    """In each of the six partitions."""
    wait_until(
        lambda: len(sql(footfall.servers, "SELECT FROM ops.erasures")) == 6 * erasures, 30, "the markers to be applied"
    )


def test_who_erased_by_http_is_told_once_with_the_pseudonym(footfall: Footfall) -> None:
    keys: dict[str, Any] = {"KAFKA_KEYS_TOPIC": f"{footfall.topic}-keys"}
    arguments = ("--kind", "secret", "--name", "office", "--tenant", "acme", "--scope", "privacy", "--json")
    key = json.loads(ask(footfall, "keys", "create", *arguments, **keys))
    open_front = footfall.start("front")
    keys_front = footfall.start("front", AUTH="keys", **keys)
    for _ in range(2):  # two projectors share the partitions, and both meet markers of each erasure
        start_projector(footfall)
    produce(footfall, [record_of(an_event("alice"))])
    wait_until_processed(footfall, 1)
    first = erase(open_front, "/users/alice", "the-first")
    second = erase(keys_front, "/users", "the-second", key["key"], userId="activity")
    wait_until_applied(footfall, 2)

    rows = sorted(listed(footfall), key=lambda row: str(row["actor"]))
    told = ("actor", "tenant_id", "target", "outcome", "request_id", "role")
    assert [tuple(row[name] for name in told) for row in rows] == [
        ("anonymous", "default", f"erasure {first}", "done", "the-first", "footfall_projector"),
        (f"key:{key['keyId']}", "acme", f"erasure {second}", "done", "the-second", "footfall_projector"),
    ]
    assert listed(footfall, "--user", "alice") == rows[:1]
    assert listed(footfall, "--user", "activity", "--tenant", "acme") == rows[1:]
    assert "alice" not in ask(footfall, "audit", "list", "--json")

    rebuild(footfall, "start")  # another generation meets the same markers
    wait_until_done(footfall, NEW, sum(row["next_offset"] for row in checkpoints(footfall).values()))
    assert len(listed(footfall)) == 2
    assert json.loads(ask(footfall, "audit", "verify", "--json"))["findings"] == []


def test_erasures_that_were_not_allowed_or_failed_are_told_in_sum(footfall: Footfall) -> None:
    keys: dict[str, Any] = {"KAFKA_KEYS_TOPIC": f"{footfall.topic}-keys"}
    arguments = ("--kind", "secret", "--name", "reader", "--tenant", "acme", "--scope", "events:read", "--json")
    reader = json.loads(ask(footfall, "keys", "create", *arguments, **keys))
    start_projector(footfall)
    front = footfall.start("front", AUTH="keys", **keys)
    for path in ("/users/alice", "/users/bob", "/users/activity"):
        answer = httpx.delete(f"{front.url}{path}", headers={"Authorization": f"Bearer {reader['key']}"})
        assert answer.status_code in (403, 405), answer.text
    assert httpx.delete(f"{front.url}/users/alice").status_code == 401  # counted as a refused sign-in
    assert front.terminate() == 0

    wait_until(lambda: len(listed(footfall)) > 0, PATIENCE, "the note to be written")
    [row] = listed(footfall)
    told = ("actor", "tenant_id", "outcome", "target", "subject", "request_id")
    why = "scope privacy is missing: 2"
    assert tuple(row[name] for name in told) == (f"key:{reader['keyId']}", "acme", "refused", why, None, "")
    assert "alice" not in ask(footfall, "audit", "list", "--json")


def test_a_command_that_erases_many_is_told_of_each(footfall: Footfall) -> None:
    start_projector(footfall)
    users = [f"user-{number}" for number in range(20)]
    told = privacy(footfall, "erase", *users, "--actor", "ann", "--yes", "--json")
    one = privacy(footfall, "erase", "user-1", "--actor", "ann", "--yes", "--json")
    assert json.loads(told)["done"]
    assert json.loads(one)["done"]
    wait_until_applied(footfall, 21)

    rows = [row for row in listed(footfall) if row["target"].startswith("erasure ")]
    assert {row["target"] for row in rows} == {f"erasure {each}" for each in json.loads(told)["erasures"]}
    assert len(rows) == 20
    [begun, *_] = [row for row in listed(footfall) if row["target"] == "20 users"]
    assert {(row["actor"], row["request_id"]) for row in rows} == {("ann", begun["request_id"])}
    assert [row["target"] for row in listed(footfall, "--user", "user-19")] == [
        f"erasure {json.loads(told)['erasures'][19]}"
    ]
    assert [row["outcome"] for row in listed(footfall, "--user", "user-1")] == ["done", "begun", "done"]
    assert json.loads(ask(footfall, "audit", "verify", "--json"))["findings"] == []


def test_ordinary_commands_and_queries_are_never_in_the_audit_log(footfall: Footfall) -> None:
    front = footfall.start("front")
    start_projector(footfall)
    command = {"userId": "user-1", "eventType": "LOGIN"}
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
        answers = [
            client.post("/events/generate", json=command),
            client.post("/events/generate", json={}),
            client.post("/events/generate/batch", json=[command] * 3),
            client.get("/events/processed?limit=10"),
            client.get("/users/user-1/events?limit=10"),
            client.get("/users/user-1/activity?position=0-0"),
            client.get("/events/feed?since=beginning"),
            client.get("/nowhere"),
        ]
    assert [answer.status_code for answer in answers[:5]] == [201, 400, 201, 200, 200]
    assert front.terminate() == 0, "what it would have told in sum, it has told"
    found = sql(footfall.servers, "SELECT action FROM ops.audit")
    assert [row["action"] for row in found] == ["audit begin"]
