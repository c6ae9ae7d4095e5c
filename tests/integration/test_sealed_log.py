"""The sealed log: who acted and what is readable for who has the key, and for nobody once it is destroyed."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from click.testing import CliRunner

from contracts.erasure import erasure_records, new_erasure
from contracts.event import DEFAULT_TENANT
from contracts.versions import encode_event
from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.drivers.commands import environment
from tests.drivers.erasure import assert_rebuilt_the_same, counts, hits
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, dlq, done, rebuild, wait_until_done
from tests.drivers.sealed import KeyStoreOfTest, a_tenant_key, in_segments
from tests.feeds import stream
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, checkpoints, metric, produce, record_of, sql, start_projector
from tests.tcp_proxy import TcpProxy, tcp_proxy

CANARY = "alice+canary@example.com"
SECRET = "payload-canary"
BACK = "back+canary@example.com"


def start_front(footfall: Footfall, keys: KeyStoreOfTest, **environment: str) -> Process:
    """A front that seals; nothing is compressed, so that a scan of bytes finds what is there."""
    return footfall.start("front", ready=True, KAFKA_COMPRESSION="none", **keys.environment(), **environment)


def post(front: Process, user: str, n: int = 0, event_type: str = "PRODUCT_VIEW") -> dict[str, Any]:
    command = {"userId": user, "eventType": event_type, "payload": {"productId": f"p-{n}", "note": f"{SECRET} {n}"}}
    answer = httpx.post(f"{front.url}/events/generate", json=command)
    assert answer.status_code == 201, answer.text
    event: dict[str, Any] = answer.json()["event"]
    assert {name: event[name] for name in command} == command
    return event


def stored(footfall: Footfall) -> int:
    return int(sql(footfall.servers, "SELECT count(*) FROM read_g1.processed_events")[0][0])


def test_an_erased_user_is_nowhere_and_every_count_stays(
    footfall: Footfall, keys: KeyStoreOfTest, tmp_path: Path
) -> None:
    front = start_front(footfall, keys)
    (tmp_path / "keys").write_text(keys.tenant_keys)
    projector = start_projector(footfall, **keys.environment_with_command(f"cat {tmp_path / 'keys'}"))
    posted = [post(front, CANARY, n, ("LOGIN", "PRODUCT_VIEW", "LOGOUT")[n % 3]) for n in range(9)]
    others = [post(front, f"user-{n % 3}", n) for n in range(6)]
    wait_until(lambda: stored(footfall) == 15, PATIENCE, "the rows")
    assert in_segments(footfall, footfall.topic, CANARY, SECRET, "LOGIN", "p-4") == {"LOGIN", "p-4"}
    page = httpx.get(f"{front.url}/events/processed", params={"userId": CANARY}).json()
    assert {event["eventId"]: event for event in page} == {event["eventId"]: event for event in posted}
    lines = httpx.get(f"{front.url}/events/processed", params={"userId": CANARY, "format": "ndjson"}).text.splitlines()
    assert {json.loads(line)["eventId"] for line in lines} == {event["eventId"] for event in posted}
    assert CANARY in httpx.get(f"{front.url}/events/feed", params={"since": "beginning"}).text
    streamed = streamed_from_the_beginning(front, 15)
    assert {event["eventId"]: event for event in streamed} == {one["eventId"]: one for one in (*posted, *others)}
    assert hits(footfall, CANARY, OLD).keys() >= {"processed_events", "user_activity"}
    before = counts(footfall)

    assert httpx.delete(f"{front.url}/users/{CANARY}").status_code == 202
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), PATIENCE, "the keys to be destroyed")
    assert hits(footfall, CANARY, OLD) == {} == hits(footfall, CANARY, "ops")
    assert counts(footfall) == before
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 3
    assert in_segments(footfall, footfall.topic, CANARY, SECRET) == set()
    assert {event["userId"] for event in streamed_from_the_beginning(front, 6)} == {"user-0", "user-1", "user-2"}

    post(front, CANARY, 99)
    wait_until(lambda: stored(footfall) == 7, PATIENCE, "the user to be back, as a new one")
    assert len(httpx.get(f"{front.url}/users/{CANARY}/events").json()) == 1
    assert_rebuilt_the_same(footfall)
    assert len(others) == 6
    assert CANARY not in projector.log_text() + front.log_text()
    assert "batch_failed" not in projector.log_text()


def streamed_from_the_beginning(front: Process, count: int) -> list[dict[str, Any]]:
    """What a stream of Server-Sent Events tells first, of so many events."""
    with stream(front.url, since="beginning") as client:
        told = client.read_until(lambda told: len(told.events) == count)
    return [json.loads(data) for _, data in told.events]


def test_letters_stay_sealed_and_are_redriven_and_plain_records_are_read_beside_sealed_ones(
    footfall: Footfall, keys: KeyStoreOfTest, tmp_path: Path
) -> None:
    produce(footfall, [record_of(an_event("before")), *plain_and_sealed_in_one_hour(keys)])
    v2 = msgspec.structs.replace(an_event("of-acme"), tenant_id="acme")
    produce(footfall, [Raw(encode_event(v2), b"acme\x1fof-acme")])
    front = start_front(footfall, keys)
    post(front, CANARY, 1)
    sql(
        footfall.servers,
        "ALTER TABLE read_g1.processed_events ADD CONSTRAINT refused CHECK (payload ->> 'note' IS NULL)",
    )
    projector = start_projector(footfall, **keys.environment())
    wait_until(lambda: len(letters(footfall)) == 1, PATIENCE, "the letter")
    [letter] = letters(footfall)
    assert b'"sealed":"' in letter["record_value"]
    assert SECRET.encode() not in letter["record_value"]
    assert not hits(footfall, SECRET, OLD)
    post(front, "neighbour", 2)
    wait_until(lambda: len(letters(footfall)) == 2, PATIENCE, "the letter of the neighbour")
    changed = letters(footfall)[1]["record_value"].replace(b'"p-2"', b'"p-3"')
    produce(footfall, [Raw(changed, b"someone"), Raw(b'{"version":"3.0","eventId":"x"}', b"someone-else")])
    wait_until(lambda: len(letters(footfall)) == 4, PATIENCE, "the letters that can never be opened")
    assert {row["error_class"] for row in letters(footfall)} == {"CheckViolationError", "InvalidSeal"}
    sql(footfall.servers, "ALTER TABLE read_g1.processed_events DROP CONSTRAINT refused")
    dlq(footfall, "redrive", keys=keys.environment())
    wait_until(lambda: stored(footfall) == 7, PATIENCE, "the rows")
    page = httpx.get(f"{front.url}/events/processed", params={"userId": CANARY}).json()
    assert sorted(event["payload"]["productId"] for event in page) == ["p-1", "p-plain", "p-sealed"]
    assert [row["state"] for row in letters(footfall)] == ["redriven", "redriven", "parked", "parked"]

    told = [json.loads(line) for line in privacy(footfall, "export", CANARY, keys=keys.environment()).splitlines()]
    assert [f"{SECRET} 1" in one["value"] for one in told if one["kind"] == "deadLetter"] == [True]
    out = json.loads(privacy(footfall, "erase", CANARY, BACK, "--yes", "--json", keys=keys.environment()))
    assert out["done"], out
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 1
    assert hits(footfall, CANARY, OLD) == {} == hits(footfall, BACK, OLD) == hits(footfall, f"{SECRET} 1", OLD)
    assert in_segments(footfall, f"{footfall.topic}-dlq", SECRET) == set()
    assert_rebuilt_the_same(footfall)
    assert CANARY not in projector.log_text()


def plain_and_sealed_in_one_hour(keys: KeyStoreOfTest) -> list[Raw]:
    """Events of two users in one partition. One of them was erased, and came back, as the log was being sealed."""
    moment = datetime.now(UTC).replace(minute=0) - timedelta(days=1)
    users, months = (CANARY, BACK), (f"{moment:%Y-%m}",)
    plain = [record_of(an_event(user, {"productId": "p-plain"}, timestamp=moment)) for user in users]
    sealed = [record_of(an_event(user, {"productId": "p-sealed"}, timestamp=moment)) for user in users]
    gone = erasure_records(new_erasure(DEFAULT_TENANT, BACK), "r", 1)
    markers = [Raw(marker.value, marker.key) for marker in gone]
    return [Raw(raw.value, raw.key, 1) for raw in (*plain, *markers, *keys.sealed(sealed, months))]


def test_an_erasure_can_be_read_until_its_own_markers_are_passed(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    """Another erasure of the same user may be done before, and then destroys the keys of the user's events."""
    produce(footfall, keys.sealed([record_of(an_event(CANARY))]))
    for _ in range(2):
        produce(footfall, [record_of(an_event(CANARY, {"note": "plain"}))])
        privacy(footfall, "erase", CANARY, "--yes", "--wait", "0", code=1, keys=keys.environment())
    first, last = keys.sql("SELECT erasure_id, subject_ids FROM key_store.erasures ORDER BY requested_at")
    assert first["subject_ids"] == last["subject_ids"]
    keys.destroy(first["subject_ids"], [first["erasure_id"]])
    start_projector(footfall, **keys.environment())
    wait_until(lambda: done(footfall, OLD) == 3 + 2 * 6, PATIENCE, "events and markers to be passed")
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), PATIENCE, "the last key to be destroyed")
    assert hits(footfall, CANARY, OLD) == {}


def test_a_generation_that_paused_until_the_key_was_destroyed_forgets_the_user(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    """It has rows of the user by name, plain and opened ones, and the marker names nobody any more."""
    unfit = Raw(b'{"userId":"%b","eventType":"wink"}' % CANARY.encode(), CANARY.encode(), 2)
    plain = [record_of(an_event(user, {"productId": "p-1"})) for user in (CANARY, "stays")]
    produce(footfall, [*plain, unfit, *keys.sealed([record_of(an_event(CANARY, {"note": SECRET}))])])
    projector = start_projector(footfall, **keys.environment())
    wait_until_done(footfall, OLD, 4)
    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, 4)
    assert projector.terminate() == 0
    rebuild(footfall, "pause")
    start_projector(footfall, **keys.environment())
    assert hits(footfall, CANARY, NEW).keys() >= {"processed_events", "user_activity", "dead_letters"}
    privacy(footfall, "erase", CANARY, "--yes", "--wait", "0", code=1, keys=keys.environment())
    wait_until_done(footfall, OLD, 10)
    keys.sql("UPDATE key_store.erasures SET requested_at = now() - interval '2 hours'")
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), PATIENCE, "the key to be destroyed")
    produce(footfall, [record_of(an_event(CANARY, {"productId": "p-1"}))])  # back: behind no letter of before
    wait_until_done(footfall, OLD, 11)
    rebuild(footfall, "resume")
    wait_until_done(footfall, NEW, 11)
    assert hits(footfall, CANARY, NEW) == hits(footfall, CANARY, OLD)
    assert "dead_letters" not in hits(footfall, CANARY, NEW)
    assert hits(footfall, SECRET, NEW) == {}
    counted = f"SELECT user_id, sum(product_views)::int FROM {NEW}.user_activity GROUP BY 1 ORDER BY 1 DESC"
    assert [tuple(row) for row in sql(footfall.servers, counted)] == [("stays", 1), (CANARY, 1)]


def letters(footfall: Footfall) -> list[Any]:
    return sql(footfall.servers, "SELECT * FROM read_g1.dead_letters ORDER BY parked_at, kafka_offset")


def test_known_users_are_served_while_the_key_store_is_away_and_new_ones_are_told(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    host = urlsplit(keys.url)
    assert host.hostname
    assert host.port
    with tcp_proxy(host.hostname, host.port) as proxy:
        keys.url = proxy.in_front_of(keys.url)
        front = start_front(footfall, keys)
        projector = start_projector(footfall, **keys.environment())
        post(front, "known")
        wait_until(lambda: stored(footfall) == 1, PATIENCE, "the first row")
        proxy.cut()
        post(front, "known", 1)
        refused = httpx.post(f"{front.url}/events/generate", json={"userId": CANARY, "eventType": "LOGIN"})
        assert refused.status_code == 503
        assert "Nothing was recorded" in refused.json()["error"]
        assert refused.headers["retry-after"]
        batch = [{"userId": user, "eventType": "LOGIN"} for user in ("known", CANARY, "known")]
        answered = httpx.post(f"{front.url}/events/generate/batch", json=batch)
        assert [one["status"] for one in answered.json()["results"]] == [201, 503, 201]
        assert httpx.delete(f"{front.url}/users/known").status_code == 503
        wait_until(lambda: stored(footfall) == 4, PATIENCE, "rows of the user whose key the projector knows")
        for process in (front, projector):
            states = httpx.get(f"{process.url}/health/ready").json()["dependencies"]
            assert not states["key store"]["ok"]
        proxy.mend()
        wait_until(lambda: posts(front, CANARY), PATIENCE, "new users to be served again")
        wait_until(lambda: stored(footfall) == 5, PATIENCE, "their rows")
        assert_a_slow_store_is_waited_for_and_a_silent_one_is_not(footfall, keys, front, projector, proxy)
        assert front.terminate() == 0
    wait_until(lambda: len(undone(footfall)) == 1, PATIENCE, "the erasures that failed to be in the audit log")
    assert undone(footfall) == [("failed", "the key store did not answer: 2")]
    assert not sql(footfall.servers, "SELECT FROM read_g1.dead_letters")
    assert in_segments(footfall, footfall.topic, CANARY, SECRET) == set()


def undone(footfall: Footfall) -> list[tuple[str, str]]:
    rows = sql(footfall.servers, "SELECT outcome, target FROM ops.audit WHERE action = 'privacy erase'")
    return [tuple(row) for row in rows]


def assert_a_slow_store_is_waited_for_and_a_silent_one_is_not(
    footfall: Footfall, keys: KeyStoreOfTest, front: Process, projector: Process, proxy: TcpProxy
) -> None:
    """The connections of front and projector stay open, and nothing comes through them."""
    with ThreadPoolExecutor() as pool:
        proxy.freeze()
        waiting = pool.submit(posts, front, "slow")
        assert proxy.holding.wait(PATIENCE)
        proxy.thaw()
        assert waiting.result()
    wait_until(lambda: stored(footfall) == 6, PATIENCE, "the row of who waited for a slow store")

    proxy.freeze()
    with ThreadPoolExecutor() as pool:  # more than the pool has connections
        unknown = [pool.submit(posts, front, f"unknown-{n}") for n in range(6)]
        gone = pool.submit(httpx.delete, f"{front.url}/users/known")
        assert [one.result() for one in unknown] == [False] * 6
        assert gone.result().status_code == 503
    assert posts(front, "known")
    wait_until(lambda: stored(footfall) == 7, PATIENCE, "the row of a known user")
    produce(footfall, keys.sealed([record_of(an_event("other", {"note": SECRET}))]))
    wait_until(lambda: "key store" in not_ready(projector), PATIENCE, "the projector to say what it waits for")
    assert stored(footfall) == 7
    proxy.thaw()
    wait_until(lambda: stored(footfall) == 8, PATIENCE, "the row that waited")
    wait_until(lambda: posts(front, "unknown-0"), PATIENCE, "new users to be served")


def not_ready(process: Process) -> set[str]:
    states = httpx.get(f"{process.url}/health/ready").json()["dependencies"]
    return {name for name, state in states.items() if not state["ok"]}


def posts(front: Process, user: str) -> bool:
    answer = httpx.post(f"{front.url}/events/generate", json={"userId": user, "eventType": "LOGIN"})
    assert answer.status_code in (201, 503)
    return answer.status_code == 201


def test_a_restored_key_store_brings_nobody_back_and_a_lost_key_is_no_erasure(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    front = start_front(footfall, keys)
    projector = start_projector(footfall, **keys.environment())
    post(front, CANARY)
    post(front, "stays")
    wait_until(lambda: stored(footfall) == 2, PATIENCE, "the rows")
    backup = keys.sql("SELECT subject_id, tenant_id, user_tag, key_id, wrapped FROM key_store.subjects")
    assert json.loads(privacy(footfall, "erase", CANARY, "--yes", "--json", keys=keys.environment()))["done"]
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 1

    keys.sql("TRUNCATE key_store.subjects, key_store.destroyed")
    # A restore is not one transaction: the projector may see the store without the key, and note its end once more.
    wait_until(lambda: len(keys.sql("SELECT FROM key_store.destroyed")) == 1, PATIENCE, "its end to be noted again")
    for row in backup:
        keys.sql("INSERT INTO key_store.subjects SELECT $1, $2, $3, $4, $5 ON CONFLICT DO NOTHING", *row.values())
    wait_until(lambda: len(keys.sql("SELECT FROM key_store.subjects")) == 1, PATIENCE, "the key to be destroyed again")
    assert_rebuilt_the_same(footfall)
    assert hits(footfall, CANARY, "read_g2") == {}

    assert projector.terminate() == 0
    post(front, "stays", 1)
    known = {row["subject_id"] for row in keys.sql("SELECT subject_id FROM key_store.subjects")}
    post(front, "lost", 5)
    [lost] = {row["subject_id"] for row in keys.sql("SELECT subject_id FROM key_store.subjects")} - known
    assert front.terminate() == 0  # it would give back what it remembers
    keys.sql("DELETE FROM key_store.subjects")
    footfall.start("projector", ready=False, **keys.environment())
    wait_until(
        lambda: "restore a newer backup" in str(stops(footfall)), PATIENCE, "the partition to say what is missing"
    )
    assert "There is no key store here" in privacy(footfall, "give-up", str(lost), "--yes", code=1)
    assert "1 subjects" in privacy(footfall, "give-up", str(lost), "--yes", keys=keys.environment())
    for row in backup:
        keys.sql("INSERT INTO key_store.subjects SELECT $1, $2, $3, $4, $5 ON CONFLICT DO NOTHING", *row.values())
    wait_until(lambda: stored(footfall) == 3, PATIENCE, "the event whose key is back, and the stub")
    [(payload,)] = sql(
        footfall.servers, f"SELECT payload FROM read_g1.processed_events WHERE user_id = 'erased-{lost}'"
    )
    assert json.loads(payload) == {"productId": "p-5"}
    assert not sql(footfall.servers, "SELECT FROM read_g1.dead_letters")


def test_a_forgotten_month_is_unreadable_and_a_rebuild_counts_it(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    old = datetime(2025, 1, 31, 23, tzinfo=UTC)
    events = [an_event(CANARY, {"productId": "p-1", "note": SECRET}, timestamp=old), an_event(CANARY)]
    produce(footfall, keys.sealed(map(record_of, events), months=("2025-01",)))
    start_projector(footfall, **keys.environment())
    wait_until(lambda: stored(footfall) == 2, PATIENCE, "the rows")
    assert hits(footfall, SECRET, OLD)
    before = counts(footfall)
    forget = ("forget-months", "--yes", "--before")
    next_month = f"{datetime.now(UTC) + timedelta(days=32):%Y-%m}"
    assert "has to be kept" in privacy(footfall, *forget, next_month, code=1, keys=keys.environment())
    assert "2025-01." in privacy(footfall, *forget, "2025-02", keys=keys.environment())
    assert "none" in privacy(footfall, *forget, "2025-02", keys=keys.environment())

    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, sum(row["next_offset"] for row in checkpoints(footfall).values()))
    assert counts(footfall, NEW) == before
    assert not hits(footfall, SECRET, NEW)
    assert hits(footfall, CANARY, NEW)  # of this month
    outcomes = sql(footfall.servers, "SELECT outcome FROM ops.audit WHERE action = 'privacy forget-months'")
    assert sorted(row["outcome"] for row in outcomes) == ["begun"] * 3 + ["done", "done", "refused"]


def stops(footfall: Footfall) -> list[Any]:
    return [row[0] for row in sql(footfall.servers, "SELECT stopped_reason FROM read_g1.checkpoints")]


def test_the_tenant_keys_of_another_store_are_refused_with_a_sentence(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    post(start_front(footfall, keys), "alice")
    for command, tenant_keys, sentence in (
        ("command-side", a_tenant_key("k1"), "is not the one that this key store was made with"),
        ("projector", a_tenant_key("k2"), "TENANT_KEYS has no such key"),
        ("projector", "* k1 c2hvcnQ=", "the key in line 1 is not 32 bytes"),
    ):
        environment = {**keys.environment(), "TENANT_KEYS": tenant_keys}
        process = footfall.start(command, ready=False, **environment)
        assert process.popen.wait(PATIENCE) == 1
        assert sentence in process.log_text()
        assert tenant_keys.split()[-1] not in process.log_text()


def test_sealed_events_are_in_their_subjects_partitions_and_nobody_calls_them_misplaced(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    front = start_front(footfall, keys)
    projector = start_projector(footfall, **keys.environment())
    for number in range(12):
        post(front, f"user-{number}")
    wait_until(lambda: stored(footfall) == 12, PATIENCE, "the rows")
    run = CliRunner().invoke(cli, ["status", "--json"], env=environment(footfall, footfall.servers.projector_url))
    told = json.loads(run.stdout)["misplaced"]
    assert (told["latest"], told["misplaced"]) == (12, 0)
    assert metric(projector, "records_misplaced_total") == 0
