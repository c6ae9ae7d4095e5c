"""Keys of months at their borders: no clock and no restore makes an acknowledged event unreadable, or one poison."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from contracts.record import HEADER_EVENT_TYPE, EventRecord
from operations.privacy import sealed_keys
from sealing.errors import KeysError
from sealing.months import month_before, month_of, months_kept
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.sealed import KeyStoreOfTest, a_tenant_key, key_store_of, sealer_of
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, logged, produce, record_of, sql, start_projector

THIS_MONTH = month_of(datetime.now(UTC))
LETTERS = "SELECT error_class FROM read_g1.dead_letters"
STOPS = "SELECT stopped_reason FROM read_g1.checkpoints WHERE stopped_reason IS NOT NULL"


@pytest.fixture
def keys(footfall: Footfall) -> KeyStoreOfTest:
    return key_store_of(footfall)


def a_login(user: str) -> EventRecord:
    return EventRecord(user.encode(), record_of(an_event(user)).value or b"", [(HEADER_EVENT_TYPE, b"LOGIN")])


def post(front: Process, user: str) -> int:
    return httpx.post(f"{front.url}/events/generate", json={"userId": user, "eventType": "LOGIN"}).status_code


def key_store_said(front: Process) -> str:
    return str(httpx.get(f"{front.url}/health/ready").json()["dependencies"]["key store"]["detail"])


def users(footfall: Footfall) -> list[str]:
    return sorted(row[0] for row in sql(footfall.servers, "SELECT user_id FROM read_g1.processed_events"))


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), "2026-12 is too late a month"),
        (datetime(2026, 12, 1, 0, 10, tzinfo=UTC), "2026-11 ended less than a day ago"),
        (datetime(2026, 12, 1, 23, 59, tzinfo=UTC), "after 2026-12-02 00:00 UTC"),
        (datetime(2026, 12, 2, 0, 0, 1, tzinfo=UTC), ""),
    ],
)
def test_a_month_is_not_forgotten_while_a_clock_that_is_behind_may_still_seal_by_its_key(
    moment: datetime, said: str
) -> None:
    if not said:
        sealed_keys.refuse_unless_over("2026-12", moment)
        return
    with pytest.raises(KeysError, match=said):
        sealed_keys.refuse_unless_over("2026-12", moment)


async def test_nothing_is_sealed_by_the_key_of_a_month_that_was_destroyed(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    """The clock here is a month behind, and what it would seal could never be read."""
    record = a_login("alice")
    async with sealer_of(keys) as (sealer, store):
        assert await sealer.learn([record])
        assert sealer.sealed(record)
        await store.months.destroy("default", "9999-01")
        await sealer._keep_what_is_remembered()
        assert sealer.sealed(record) is None
        assert await sealer.learn([record])
        assert sealer.sealed(record) is None, "it is asked for again, and is not there"
        state = await sealer.state()
        assert not state.ok
        assert "clock of this machine" in state.detail


async def test_the_key_of_the_month_before_is_given_back_too(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    """What a tenant did in the last minute of a month, after the backup that is restored in the first of the next."""
    record = a_login("alice")
    before = month_before(datetime.now(UTC))
    async with sealer_of(keys) as (sealer, store):
        await sealer.learn([record])
        found = await store.months.of("default", [before])
        sealer._learned("default", found)
        await asyncio.to_thread(keys.sql, "TRUNCATE key_store.months, key_store.subjects, key_store.tenants")
        await sealer._keep_what_is_remembered()
        assert await store.months.of("default") == {month: found[month] for month in months_kept()}


def test_sound_events_of_a_month_whose_key_was_made_anew_wait_for_it_or_are_given_up(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    """The backup has the user and not the month, and nobody who remembered the month's key is left."""
    front = footfall.start("front", ready=True, **keys.environment())
    assert post(front, "alice") == 201
    front.kill()
    keys.sql("DELETE FROM key_store.months WHERE month = $1", THIS_MONTH)
    front = footfall.start("front", ready=True, **keys.environment())
    assert post(front, "alice") == 201
    footfall.start("projector", ready=False, **keys.environment())
    wait_until(lambda: "was made anew at" in str(sql(footfall.servers, STOPS)), PATIENCE, "what is missing to be said")
    assert f"footfall privacy give-up --tenant default --month {THIS_MONTH}" in str(sql(footfall.servers, STOPS))
    assert not sql(footfall.servers, LETTERS)
    assert THIS_MONTH in privacy(footfall, "give-up", "--month", THIS_MONTH, "--yes", keys=keys.environment())
    again = privacy(footfall, "give-up", "--month", THIS_MONTH, "--yes", code=1, keys=keys.environment())
    assert "given up already" in again
    wait_until(lambda: len(users(footfall)) == 2, PATIENCE, "the stub, and the event of the new key")
    assert [user.startswith("erased-") for user in users(footfall)] == [False, True]
    assert not sql(footfall.servers, LETTERS)


def test_what_both_keys_of_a_month_sealed_is_read_while_somebody_remembers_them(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    """Another process made the month's key anew, or a backup with another one was restored, while this one sealed."""
    front = footfall.start("front", ready=True, **keys.environment())
    assert post(front, "alice") == 201
    front.popen.send_signal(signal.SIGSTOP)  # else it might give its key back first
    keys.sql("DELETE FROM key_store.months")
    produce(footfall, keys.sealed([record_of(an_event("bob"))]))
    front.popen.send_signal(signal.SIGCONT)
    wait_until(lambda: bool(keys.sql("SELECT FROM key_store.other_months")), PATIENCE, "the first key to be kept")
    assert logged(front, "month_key_replaced")
    assert post(front, "alice") == 201
    start_projector(footfall, **keys.environment())
    wait_until(lambda: users(footfall) == ["alice", "alice", "bob"], PATIENCE, "every event")
    assert not sql(footfall.servers, LETTERS)
    keys.sql("UPDATE key_store.other_months SET month = '2025-01'")
    privacy(footfall, "forget-months", "--before", "2025-02", "--yes", keys=keys.environment())
    assert not keys.sql("SELECT FROM key_store.other_months"), "what is forgotten is forgotten"


def test_what_is_falsified_is_set_aside_as_ever_and_given_up_events_are_stubs(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    old = keys.sealed([record_of(an_event("alice", {"productId": "p-1"}))])
    keys.sql("DELETE FROM key_store.months")
    new = keys.sealed([record_of(an_event("alice", timestamp=datetime.now(UTC) + timedelta(seconds=2)))])
    falsified = Raw((new[0].value or b"").replace(b'"sealed":"', b'"sealed":"AAAA'), new[0].key, 0)
    privacy(footfall, "give-up", "--month", THIS_MONTH, "--yes", keys=keys.environment())
    produce(footfall, [Raw(each.value, each.key, 0) for each in (*old, *new)] + [falsified])
    start_projector(footfall, **keys.environment())
    wait_until(lambda: len(sql(footfall.servers, LETTERS)) == 1, PATIENCE, "the falsified one to be set aside")
    assert [row[0] for row in sql(footfall.servers, LETTERS)] == ["InvalidSeal"]
    assert [user.startswith("erased-") for user in users(footfall)] == [False, True]


def test_who_was_erased_and_comes_back_right_after_a_restore_is_a_new_subject(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    """The backup is from before the erasure, whose marker no projector has applied yet."""
    fronts = [footfall.start("front", ready=True, **keys.environment()) for _ in range(2)]
    assert [post(front, "alice") for front in fronts] == [201, 201]
    backup = keys.sql("SELECT * FROM key_store.subjects")
    assert httpx.delete(f"{fronts[0].url}/users/alice").status_code == 202
    wait_until(lambda: retired(keys), PATIENCE, "her subject to be retired")
    keys.sql("TRUNCATE key_store.subjects, key_store.erasures")
    for row in backup:
        keys.sql("INSERT INTO key_store.subjects VALUES ($1, $2, $3, $4, $5, $6, $7)", *row.values())
    assert post(fronts[1], "alice") == 201, "at once, where she is remembered as erased"
    assert len(keys.sql("SELECT FROM key_store.subjects WHERE retired_at IS NULL")) == 1
    wait_until(lambda: bool(keys.sql("SELECT FROM key_store.erasures")), PATIENCE, "the erasure's key to be back")
    assert retired(keys)
    assert post(fronts[0], "alice") == 201
    start_projector(footfall, **keys.environment())
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), PATIENCE, "the erasure to be done")
    assert users(footfall) == ["alice"] * 2, "what she did since"


def retired(keys: KeyStoreOfTest) -> bool:
    return bool(keys.sql("SELECT FROM key_store.subjects WHERE retired_at IS NOT NULL"))


async def test_what_was_retired_is_heard_of_whatever_the_clock_of_the_new_server_says(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    """A replica took over: its clock is ten minutes behind, or ahead."""
    async with sealer_of(keys) as (_, store):
        found = await store.learn([("default", "alice")])
        name = found["default", "alice"].subject_id
        retire = "UPDATE key_store.subjects SET retired_at = now() - make_interval(secs => $1)"
        now = await store.now()
        await asyncio.to_thread(keys.sql, retire, 0)
        assert (await store.retired_since(now + timedelta(minutes=10), 1.0))[0] == [name]
        await asyncio.to_thread(keys.sql, retire, 600)
        assert (await store.retired_since(now - timedelta(minutes=10), 1.0))[0] == [name]
        await asyncio.to_thread(keys.sql, retire, 3_600)
        assert (await store.retired_since(now, 1.0))[0] == []


def test_a_tenant_key_that_is_missing_for_some_users_is_named_and_one_of_its_own_goes_beside_the_general_one(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    first = keys.tenant_keys
    front = footfall.start("front", ready=True, **keys.environment())
    assert post(front, "old") == 201
    front.kill()
    keys.tenant_keys = f"{first}\n{a_tenant_key('k2').replace('*', 'default')}"
    front = footfall.start("front", ready=True, **keys.environment())
    assert [post(front, user) for user in ("old", "new")] == [201, 201]
    assert {row["key_id"] for row in keys.sql("SELECT key_id FROM key_store.subjects")} == {"k1", "k2"}
    front.kill()
    keys.tenant_keys = first
    front = footfall.start("front", ready=True, **keys.environment())
    assert [post(front, user) for user in ("old", "new")] == [201, 503]
    assert "`k2` wraps, and TENANT_KEYS has no such key" in key_store_said(front)
    assert "add its line again" in logged(front, "keys_not_learned")[0]["detail"]
