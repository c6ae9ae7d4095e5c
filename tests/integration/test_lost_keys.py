"""A key store that lost keys, or answers and refuses: nothing sound is set aside, and what is remembered comes back."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import httpx

from contracts.record import HEADER_EVENT_TYPE, EventRecord
from sealing.months import months_needed
from sealing.store import RESTORED
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, rebuild, wait_until_done
from tests.drivers.sealed import LOGIN, KeyStoreOfTest, sealer_of
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, logged, produce, record_of, sql, start_projector

LOST_SUBJECT = "5f0c3a51-29f1-4b7e-9d56-0f4f6a3d2c11"


def front_of(footfall: Footfall, keys: KeyStoreOfTest) -> Process:
    return footfall.start("front", ready=True, **keys.environment())


def post(front: Process, user: str) -> int:
    return httpx.post(f"{front.url}/events/generate", json={"userId": user, "eventType": "LOGIN"}).status_code


def an_alices_record() -> EventRecord:
    """A plain record, as it comes to be sealed."""
    return EventRecord(b"alice", record_of(an_event("alice")).value or b"", [(HEADER_EVENT_TYPE, b"LOGIN")])


def wait_until_stored(footfall: Footfall, number: int) -> None:
    """So many rows, and no dead letter and no stop."""
    stopped = "SELECT stopped_reason FROM read_g1.checkpoints WHERE stopped_reason IS NOT NULL"
    wait_until(lambda: count(footfall, "processed_events") == number, PATIENCE, f"{number} rows")
    wait_until(lambda: not sql(footfall.servers, stopped), PATIENCE, "no stop, which is taken back behind the rows")
    assert count(footfall, "dead_letters") == 0


def count(footfall: Footfall, table: str) -> int:
    return int(sql(footfall.servers, f"SELECT count(*) FROM read_g1.{table}")[0][0])


def test_keys_that_a_restored_store_lacks_are_given_back_by_who_remembers_them(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    front = front_of(footfall, keys)
    assert [post(front, user) for user in ("old", "newer")] == [201, 201]
    old = keys.sql("SELECT * FROM key_store.subjects ORDER BY created_at")[0]
    keys.sql("TRUNCATE key_store.subjects, key_store.months, key_store.tenants")
    keys.sql("INSERT INTO key_store.subjects VALUES ($1, $2, $3, $4, $5, $6, $7)", *old.values())
    assert post(front, "newer") == 201  # before anybody noticed
    wait_until(lambda: bool(logged(front, "keys_given_back")), PATIENCE, "the keys to be given back")
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 2
    assert {row["month"] for row in keys.sql("SELECT month FROM key_store.months")} == months_needed()
    assert front.terminate() == 0

    again = front_of(footfall, keys)
    assert [post(again, user) for user in ("old", "newer")] == [201, 201]
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 2, "they are who they were"
    start_projector(footfall, **keys.environment())
    wait_until_stored(footfall, 5)


async def test_a_user_who_has_a_new_subject_keeps_it_and_the_old_one_can_be_read(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    record = an_alices_record()
    async with sealer_of(keys) as (first, store), sealer_of(keys) as (second, _):
        assert await first.learn([record])
        before = first.sealed(record)
        await asyncio.to_thread(keys.sql, "TRUNCATE key_store.subjects")
        assert await second.learn([record])
        await first._keep_what_is_remembered()
        await second._keep_what_is_remembered()
        assert first.sealed(record) is None, "nobody seals for the old one"
        assert await first.learn([record])
        after, of_second = first.sealed(record), second.sealed(record)
        assert before
        assert after
        assert of_second
        assert after.key == of_second.key != before.key
        assert len(await store.keys_of([before.key.decode(), after.key.decode()])) == 2
        assert len(await store.subjects_of(("default", "alice"))) == 2, "an erasure destroys both"


async def test_a_destroyed_key_and_the_month_of_another_are_not_given_back(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    record = an_alices_record()
    async with sealer_of(keys) as (first, store), sealer_of(keys) as (second, _):
        assert await first.learn([record])
        sealed = first.sealed(record)
        assert sealed
        await store.destroy([(await asyncio.to_thread(keys.sql, "SELECT subject_id FROM key_store.subjects"))[0][0]])
        await asyncio.to_thread(keys.sql, "TRUNCATE key_store.months")
        assert await second.learn([])  # no month, no user: nothing
        await second._more_months(["default"])
        await first._keep_what_is_remembered()
        await asyncio.to_thread(keys.sql, "DELETE FROM key_store.tenants")  # what the store lacks beside
        await first._keep_what_is_remembered()
        assert first._months == second._months, "the store's month seals from now on"
        assert not await asyncio.to_thread(keys.sql, "SELECT FROM key_store.subjects")
        assert len(await asyncio.to_thread(keys.sql, "SELECT FROM key_store.tenants")) == 1


async def test_who_was_learned_after_a_restore_or_given_back_by_another_hides_no_loss(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    def of(user: str) -> EventRecord:
        return EventRecord(user.encode(), record_of(an_event(user)).value or b"", [(HEADER_EVENT_TYPE, b"LOGIN")])

    async with sealer_of(keys) as (first, store), sealer_of(keys) as (second, _):
        assert await first.learn([of("only-here")])
        await first._keep_what_is_remembered()
        assert await first.learn([of("shared")])
        assert await second.learn([of("shared")])
        await first._keep_what_is_remembered()
        await asyncio.to_thread(keys.sql, "TRUNCATE key_store.subjects")
        async with store.listening(first._heard):
            await second._keep_what_is_remembered()
            assert await first.learn([of("new")])
            async with asyncio.timeout(PATIENCE):
                while not first._is_told:  # noqa: ASYNC110 - PostgreSQL's word
                    await asyncio.sleep(0.01)
        first._is_told = False  # it was away when that was said
        await first._keep_what_is_remembered()
        assert len(await asyncio.to_thread(keys.sql, "SELECT FROM key_store.subjects")) == 3
        await asyncio.to_thread(keys.sql, "DELETE FROM key_store.subjects WHERE created_at < now()")
        first._heard(None, 0, "", RESTORED)
        await first._keep_what_is_remembered()
        assert len(await asyncio.to_thread(keys.sql, "SELECT FROM key_store.subjects")) == 3


def test_sound_events_are_not_set_aside_when_the_keys_that_a_projector_remembers_are_others_now(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    front = front_of(footfall, keys)
    start_projector(footfall, **keys.environment())
    assert post(front, "known") == 201
    wait_until_stored(footfall, 1)
    front.kill()
    keys.sql("TRUNCATE key_store.months")
    front = front_of(footfall, keys)
    assert [post(front, user) for user in ("known", "fresh")] == [201, 201]
    wait_until_stored(footfall, 3)


def test_an_erasure_that_a_restored_store_forgot_is_carried_out(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    """A generation stands still, so the keys are not destroyed yet; and the backup is from before the request."""
    front = front_of(footfall, keys)
    projector = start_projector(footfall, **keys.environment())
    assert post(front, "alice") == 201
    wait_until_stored(footfall, 1)
    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, 1)
    assert projector.terminate() == 0
    rebuild(footfall, "pause")
    start_projector(footfall, **keys.environment())
    privacy(footfall, "erase", "alice", "--yes", "--wait", "0", code=1, keys=keys.environment())
    wait_until_stored(footfall, 0)
    keys.sql("DELETE FROM key_store.erasures")
    keys.sql("UPDATE key_store.subjects SET retired_at = NULL")
    retired = "SELECT FROM key_store.subjects WHERE retired_at IS NOT NULL"
    wait_until(lambda: bool(keys.sql(retired)), PATIENCE, "nobody to seal for her")
    assert post(front, "alice") == 201, "as a new subject"
    wait_until_stored(footfall, 1)
    rebuild(footfall, "resume")
    wait_until(lambda: len(keys.sql("SELECT FROM key_store.subjects")) == 1, PATIENCE, "the old key to be destroyed")
    rows = f"SELECT FROM {NEW}.processed_events WHERE user_id = 'alice'"
    wait_until(lambda: len(sql(footfall.servers, rows)) == 1, PATIENCE, "the row of who came back")


def test_a_month_whose_key_is_lost_can_be_given_up_and_no_other(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    old = an_event("alice", {"productId": "p-1"}, timestamp=an_event().timestamp.replace(year=2025, month=1, day=15))
    produce(footfall, [Raw(each.value, each.key, 0) for each in keys.sealed([record_of(old)], months=("2025-01",))])
    kept = keys.sql("DELETE FROM key_store.months WHERE month = '2025-01' RETURNING *")
    start = footfall.start("projector", ready=False, **keys.environment())
    reason = "SELECT stopped_reason FROM read_g1.checkpoints WHERE stopped_reason IS NOT NULL"
    wait_until(
        lambda: "give the month up" in str(sql(footfall.servers, reason)), PATIENCE, f"what is missing: {start.log}"
    )
    assert kept
    present = max(months_needed())
    environment = keys.environment()
    asked = "give-up", "--month", "2025-01", "--month", "2024-12", LOST_SUBJECT, "--yes"
    keys.sql("INSERT INTO key_store.months (tenant_id, month, key_id) VALUES ('default', '2024-12', '')")
    assert "2024-12" in privacy(footfall, *asked, code=1, keys=environment)
    assert not keys.sql("SELECT FROM key_store.destroyed")
    assert not keys.sql("SELECT FROM key_store.months WHERE month = '2025-01'")
    assert "has to be kept" in privacy(footfall, "give-up", "--month", present, "--yes", code=1, keys=environment)
    assert "2025-01" in privacy(footfall, "give-up", "--month", "2025-01", "--yes", keys=environment)
    assert "given up already" in privacy(footfall, "give-up", "--month", "2025-01", "--yes", code=1, keys=environment)
    assert "Name subjects" in privacy(footfall, "give-up", "--yes", code=2, keys=environment)
    assert "written 2026-01" in privacy(footfall, "give-up", "--month", "25-1", "--yes", code=2, keys=environment)
    wait_until_stored(footfall, 1)
    [(payload,)] = sql(footfall.servers, "SELECT payload FROM read_g1.processed_events")
    assert "p-1" in payload


def test_a_store_that_answers_and_refuses_is_named_with_what_to_do_and_is_used_again(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    front = front_of(footfall, keys)
    assert post(front, "known") == 201
    database = urlsplit(keys.admin_url).path[1:]
    read_only = f"ALTER DATABASE {database} {{}} default_transaction_read_only"
    refusals: tuple[tuple[str, str, str], ...] = (
        (read_only.format("SET") + " = on", read_only.format("RESET"), "must name the primary"),
        *(
            (f"REVOKE {right} FROM footfall_keys", f"GRANT {right} TO footfall_keys", "footfall privacy prepare")
            for right in ("INSERT ON key_store.subjects", "DELETE ON key_store.erasures")
        ),
        (f"REVOKE footfall_keys FROM {LOGIN}", f"GRANT footfall_keys TO {LOGIN}", "a member of footfall_keys"),
        ("ALTER TABLE key_store.subjects RENAME TO other", "ALTER TABLE key_store.other RENAME TO subjects", "42P01"),
    )
    for refuse, allow, said in refusals:
        in_new_sessions(keys, refuse)
        wait_until_said(front, said)
        assert post(front, "known") == 201
        in_new_sessions(keys, allow)
        wait_until_said(front, "")
        assert post(front, refuse) == 201


def wait_until_said(front: Process, words: str) -> None:
    """Until readiness says so of the key store. Without words: until it is well."""
    wait_until(lambda: words in (said := key_store_said(front)) and bool(words) == bool(said), PATIENCE, words)


def key_store_said(front: Process) -> str:
    state = httpx.get(f"{front.url}/health/ready").json()["dependencies"]["key store"]
    assert state["ok"] or state["detail"]
    return str(state["detail"])


def in_new_sessions(keys: KeyStoreOfTest, statement: str) -> None:
    """Runs it as the owner, and ends the sessions of the processes, which know nothing of it."""
    asyncio.run(_in_new_sessions(keys, statement))


async def _in_new_sessions(keys: KeyStoreOfTest, statement: str) -> None:
    owner = await asyncpg.connect(keys.admin_url, server_settings={"default_transaction_read_only": "off"})
    sealer = await asyncpg.connect(keys.url)
    await owner.execute(statement)
    await sealer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = current_user AND pid <> pg_backend_pid() AND datname = current_database()"
    )
    await owner.close()
    await sealer.close()
