"""No log of ours or of PostgreSQL names a user or quotes a payload, whatever fails (docs/privacy.md)."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.own_postgres import OwnPostgres, own_postgres
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, logged, produce, record_of, start_projector
from tests.servers import Servers

USER, PAYLOAD = "canary-7f3a@example.com", "canary-payload-9b1c"
EVENTS = 3_000
REFUSED = {"userId": USER, "eventType": "WINK", "payload": {"mail": PAYLOAD}}
COMMAND = {"userId": USER, "eventType": "LOGIN", "payload": {"mail": PAYLOAD}}


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres(log_min_duration_statement="0", log_lock_waits="on", deadlock_timeout="100ms") as found:
        yield found


@pytest.fixture
def footfall(
    postgres: OwnPostgres, real_servers: Servers, new_topic: Callable[..., str], tmp_path: Path
) -> Iterator[Footfall]:
    instance = Footfall(replace(postgres.servers(), kafka=real_servers.kafka), new_topic(), tmp_path)
    yield instance
    instance.close()


def test_no_log_names_a_user_or_quotes_a_payload(footfall: Footfall, postgres: OwnPostgres, tmp_path: Path) -> None:
    front = footfall.start("front", QUERY_TIMEOUT_MS="500")
    projector = start_projector(footfall)
    produce(footfall, [record_of(an_event(USER, {"productId": PAYLOAD, "n": n})) for n in range(EVENTS)])
    refuse_commands(front)
    park_records(footfall, postgres, projector)
    ask_for_everything(front)
    abort_exports(front)
    wait_for_locks(front, postgres)
    kill(footfall, projector, postgres, front)

    logs = {path.name: path.read_text(errors="replace") for path in tmp_path.glob("*.log")}
    for number, path in enumerate(sorted(postgres.cluster.home.glob("server.log*"))):
        logs[f"PostgreSQL {number}"] = path.read_text(errors="replace")
    servers = "".join(text for name, text in logs.items() if name.startswith("PostgreSQL"))
    assert "request_failed" in logs["front-0.log"]
    assert "record_parked" in logs["projector-1.log"]
    for told in ("duration:", "violates check constraint", "still waiting for", "canceling statement"):
        assert told in servers, told
    for name, text in logs.items():
        for canary in (USER, PAYLOAD, USER.replace("@", "%40")):
            found = next((line for line in text.splitlines() if canary in line), None)
            assert found is None, f"{name}: {found}"


def refuse_commands(front: Process) -> None:
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
        assert client.post("/events/generate", json=REFUSED).status_code == 400
        assert client.post("/events/generate", content=f'{{"userId": "{USER}'.encode()).status_code in (400, 415)
        keyed = {"Idempotency-Key": USER}
        assert client.post("/events/generate", json=COMMAND, headers=keyed).status_code == 201
        changed = {**COMMAND, "payload": {"mail": f"{PAYLOAD}-2"}}
        assert client.post("/events/generate", json=changed, headers=keyed).status_code == 422
        assert client.post("/events/generate/batch", json=[COMMAND, REFUSED]).status_code == 207
        assert client.delete(f"/users/{USER}-2").status_code == 202


def park_records(footfall: Footfall, postgres: OwnPostgres, projector: Process) -> None:
    """One whose value is no event, and one that PostgreSQL refuses with the whole row in its detail."""
    planted = f"ADD CONSTRAINT planted CHECK (length(user_id) <> {len(USER) + 2})"
    postgres.run(f"ALTER TABLE read_g1.processed_events {planted}", "SELECT 1")
    event = an_event(f"{USER}-3", {"mail": PAYLOAD})
    broken = encode_event(an_event(USER, {"mail": PAYLOAD})).replace(b"PRODUCT_VIEW", b"wink")
    produce(footfall, [record_of(event), Raw(broken, USER.encode()), Raw(broken[:-5], USER.encode())])
    wait_until(lambda: len(logged(projector, "record_parked")) >= 2, 60, "two records to be parked")


def ask_for_everything(front: Process) -> None:
    at = [f"/users/{USER}/{what}" for what in ("activity", "sessions", "events", "nothing", "%FF", "activity/")]
    at += [f"/{USER}", f"/{USER}/activity/", f"/users//{USER}", f"/events/{USER}", f"/events/{USER}/status"]
    at += [f"/events/processed?userId={USER}&productId={PAYLOAD}", f"/users/activity?userId={USER}&{USER}={PAYLOAD}"]
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
        for path in at:
            for method in ("GET", "POST", "OPTIONS"):
                assert client.request(method, path).status_code in (200, 204, 400, 404, 405), path


def abort_exports(front: Process) -> None:
    for kind in ("ndjson", "csv", "arrow"):
        with httpx.stream(
            "GET", f"{front.url}/events/processed?format={kind}&userId={USER}", timeout=PATIENCE
        ) as answer:
            assert next(answer.iter_raw(), b"") or answer.status_code >= 400


def wait_for_locks(front: Process, postgres: OwnPostgres) -> None:
    """Queries of the user wait for a lock until their time is over."""

    async def locked() -> None:
        connection = await asyncpg.connect(postgres.superuser_url())
        async with connection.transaction():
            await connection.execute("LOCK TABLE read_g1.user_activity, read_g1.processed_events")
            ready.set()
            await asyncio.to_thread(release.wait)
        await connection.close()

    ready, release = threading.Event(), threading.Event()
    holder = threading.Thread(target=lambda: asyncio.run(locked()), daemon=True)
    holder.start()
    assert ready.wait(PATIENCE)
    for path in (f"/users/{USER}/activity", f"/users/{USER}/events", f"/events/processed?userId={USER}"):
        assert httpx.get(f"{front.url}{path}", timeout=PATIENCE).status_code == 503
    release.set()
    holder.join(PATIENCE)


def kill(footfall: Footfall, projector: Process, postgres: OwnPostgres, front: Process) -> None:
    """The projector in the middle of its work, then PostgreSQL under both."""
    produce(footfall, [record_of(an_event(USER, {"mail": PAYLOAD})) for _ in range(EVENTS)])
    projector.kill()
    again = start_projector(footfall)
    postgres.crash()
    for _ in range(20):
        httpx.get(f"{front.url}/users/{USER}/activity", timeout=PATIENCE)
    assert again.popen.poll() is None
    postgres.stop()
    assert httpx.get(f"{front.url}/users/{USER}/activity", timeout=PATIENCE).status_code == 503
    postgres.start()
