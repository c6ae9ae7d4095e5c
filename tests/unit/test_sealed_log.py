"""An event log that seals: who waits for a key, in which order, and what becomes of those who get none."""

import asyncio
import base64
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

import pytest

from command_side.app import compression_of
from command_side.publishing.event_log import (
    BUSY,
    FAILED,
    KEYS_AWAY,
    UNKNOWN,
    Acknowledged,
    NotTaken,
    Outcome,
    PendingPublish,
)
from command_side.publishing.sealed_log import SealedLog
from command_side.settings import CommandSettings
from contracts.event import ActivityCommand
from contracts.record import EventRecord, new_record
from sealing.errors import WrongTenantKeysError
from sealing.months import month_before
from sealing.remembered import Remembered, Witnesses
from sealing.sealer import Sealer, user_of
from sealing.store import KeyStore, Subject, User
from sealing.tenant_keys import Wrapped, output_of, parse_tenant_keys
from telemetry.health import DependencyState

KEY, OTHER = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))


class Seals:
    """Knows the users that it learned; learns when it is let."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.looks: list[list[bytes]] = []
        self.may_learn = asyncio.Event()
        self.away = self.broken = False
        self.faulty = b""  # a value that cannot be sealed

    def sealed(self, record: EventRecord) -> EventRecord | None:
        if record.value == self.faulty and record.key in self.known:
            raise ValueError
        return EventRecord(b"sealed", record.value, record.headers) if record.key in self.known else None

    async def learn(self, records: Sequence[EventRecord]) -> bool:
        self.looks.append([record.key for record in records])
        await self.may_learn.wait()
        if self.broken:
            raise TypeError
        if not self.away:
            self.known.update(record.key for record in records)
        return not self.away

    async def state(self) -> DependencyState:
        return DependencyState(ok=True)

    def running(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class Pending:
    def withdraw(self) -> None: ...


class Log:
    """Acknowledges everything, at once; raises for records of `faulty`."""

    def __init__(self, faulty: bytes = b"") -> None:
        self.values: list[bytes] = []
        self.faulty = faulty

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        if record.value == self.faulty:
            raise RuntimeError
        self._take(record)
        on_result(Acknowledged(0, len(self.values)))
        return Pending()

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        for record in records:
            self._take(record)
        return [Acknowledged(0, 0) for _ in records]

    def _take(self, record: EventRecord) -> None:
        assert record.key == b"sealed"
        self.values.append(record.value)

    async def partition_count(self) -> int:
        return 1

    async def connected(self) -> bool:
        return True


def of(user: str) -> EventRecord:
    return new_record(ActivityCommand(user, "LOGIN", {}), "r", "default")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_users_who_are_not_known_wait_together_and_keep_their_order() -> None:
    seals, log = Seals(), Log()
    sealed = SealedLog(log, seals, max_waiting=3)
    outcomes: list[Outcome] = []
    records = [of("a"), of("b"), of("a")]
    for record in records:
        assert not isinstance(sealed.publish_nowait(record, outcomes.append), NotTaken)
    assert sealed.publish_nowait(of("c"), outcomes.append) == BUSY
    await turns()
    late = [of("d"), of("a")]
    withdrawn = sealed.publish_nowait(late[0], outcomes.append)
    assert not isinstance(withdrawn, NotTaken)
    withdrawn.withdraw()
    assert not isinstance(sealed.publish_nowait(late[1], outcomes.append), NotTaken)
    assert log.values == []
    seals.may_learn.set()
    await turns()
    assert log.values == [*(record.value for record in records), late[1].value]
    assert seals.looks == [[b"a", b"b", b"a"], [b"d", b"a"]]
    assert len(outcomes) == 4


async def test_without_a_key_nothing_is_recorded_and_known_users_are() -> None:
    seals, log = Seals(), Log()
    seals.away, seals.known = True, {b"known"}
    seals.may_learn.set()
    sealed = SealedLog(log, seals, max_waiting=9)
    outcomes: list[Outcome] = []
    sealed.publish_nowait(of("a"), outcomes.append)
    sealed.publish_nowait(of("known"), outcomes.append)
    await turns()
    assert outcomes == [Acknowledged(0, 1), KEYS_AWAY]
    answer = await sealed.publish_all([of("known"), of("a"), of("known")])
    assert answer == [Acknowledged(0, 0), KEYS_AWAY, Acknowledged(0, 0)]
    assert len(log.values) == 3


async def test_a_fault_of_the_program_is_not_called_one_of_the_key_store() -> None:
    seals = Seals()
    outcomes: list[Outcome] = []
    seals.broken = True
    seals.may_learn.set()
    sealed = SealedLog(Log(), seals, max_waiting=9)
    sealed.publish_nowait(of("a"), outcomes.append)
    await turns()
    assert outcomes == [FAILED]
    assert await sealed.publish_all([of("b")]) == [FAILED]


async def test_whatever_raises_everybody_who_waits_is_answered_once() -> None:
    """What the log raised for is unknown; what could not be sealed, and what the log never got, is not recorded."""
    records = [of("a"), of("b"), of("c")]
    seals, log = Seals(), Log(faulty=records[0].value)
    seals.faulty = records[1].value
    sealed = SealedLog(log, seals, max_waiting=9)
    outcomes: dict[bytes, list[Outcome]] = {record.key: [] for record in records}
    for record in records:
        sealed.publish_nowait(record, outcomes[record.key].append)
    seals.may_learn.set()
    await turns()
    assert list(outcomes.values()) == [[UNKNOWN], [FAILED], [Acknowledged(0, 1)]]

    ended: list[Outcome] = []
    seals.may_learn.clear()
    sealed.publish_nowait(of("d"), ended.append)
    await turns()
    sealed.publish_nowait(of("e"), ended.append)
    [learning] = [task for task in asyncio.all_tasks() if task.get_name() == "learn-keys"]
    learning.cancel()
    await turns()
    assert ended == [FAILED, FAILED]


async def test_a_look_that_fails_answers_those_who_came_meanwhile() -> None:
    seals, log = Seals(), Log()
    seals.away = True
    sealed = SealedLog(log, seals, max_waiting=9)
    outcomes: list[Outcome] = []
    sealed.publish_nowait(of("a"), outcomes.append)
    await turns()
    sealed.publish_nowait(of("b"), outcomes.append)
    seals.may_learn.set()
    await turns()
    assert outcomes == [KEYS_AWAY, KEYS_AWAY]
    assert seals.looks == [[b"a"]]


class Store:
    """A key store that answers at once, as much of one as a sealer asks."""

    def __init__(self) -> None:
        self.made: dict[User, Subject] = {}

    async def learn(self, users: Sequence[User]) -> dict[User, Subject]:
        self.made |= {user: Subject(str(uuid4()), user[0], b"k" * 32) for user in users}
        return self.made

    class Months:
        async def of(self, _tenant_id: str, wanted: Iterable[str]) -> dict[str, bytes | None]:
            return dict.fromkeys(wanted, b"m" * 32)

    months = Months()


async def test_of_many_remembered_users_exactly_the_retired_are_forgotten() -> None:
    store = Store()
    sealer = Sealer(cast(KeyStore, store), {}, limit=20, startup_timeout=1)
    records = [of(f"user-{number}") for number in range(100)]
    for record in records:  # most of them are forgotten again: there is room for 20
        await sealer.learn([record])
    remembered = [record for record in records if sealer.sealed(record) is not None]
    assert 10 <= len(remembered) <= 20
    gone = remembered[::2]
    sealer._forget({store.made[user_of(record.key)].subject_id for record in [*gone, records[0]]})
    assert [record for record in records if sealer.sealed(record) is not None] == remembered[1::2]


def test_what_is_sealed_is_compressed_by_zstd_unless_a_setting_says_otherwise() -> None:
    assert compression_of(CommandSettings(), sealed=False) == "gzip"
    assert compression_of(CommandSettings(), sealed=True) == "zstd"
    assert compression_of(CommandSettings(kafka_compression="gzip"), sealed=True) == "gzip"
    assert compression_of(CommandSettings(kafka_compression="none"), sealed=True) is None


def test_what_was_used_lately_is_remembered_within_the_limit() -> None:
    known: Remembered[int, str] = Remembered(4)
    for number in range(100):
        known.put(number, str(number))
        assert known.get(0) == "0"
        assert len(dict(known.items())) <= 4
    assert known.get(50) is None
    known.drop(0)
    assert known.get(0) is None


def test_a_tenant_key_unwraps_what_it_wrapped_and_nothing_else() -> None:
    keys = parse_tenant_keys(f"# comment\n* first {KEY}\nacme own {OTHER}\nacme newer {KEY}\n")
    wrapped = keys.wrap("acme", "index", b"secret")
    assert wrapped.key_id == "newer"
    assert keys.unwrap("acme", "index", wrapped) == b"secret"
    of_default = keys.wrap("default", "index", b"secret")
    for tenant, purpose, found in (
        ("acme", "month", wrapped),
        ("globex", "index", of_default),
        ("acme", "index", Wrapped("own", wrapped.text)),
        ("acme", "index", Wrapped("gone", wrapped.text)),
    ):
        with pytest.raises(WrongTenantKeysError):
            keys.unwrap(tenant, purpose, found)
    with pytest.raises(WrongTenantKeysError, match="none for"):
        parse_tenant_keys(f"acme own {KEY}").wrap("default", "index", b"secret")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one two",
        f"* k {KEY[:-8]}",
        f"* k {KEY}\n* k {OTHER}",
        f"* k/1 {KEY}",
        f"\ufeff* k {KEY}",
        f"* k {'%' * 44}",
    ],
)
def test_malformed_tenant_keys_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|it has no line") as refused:
        parse_tenant_keys(text)
    assert KEY[:10] not in str(refused.value)


def test_tenant_keys_come_from_a_command() -> None:
    assert output_of("echo '* k1 abc'") == "* k1 abc\n"
    for command in ("false", "/no/such/program", "'"):
        with pytest.raises(ValueError, match="the command"):
            output_of(command)


def test_of_subjects_whatever_part_is_lost_one_of_the_few_witnesses_is_among_it() -> None:
    witnesses = Witnesses(8)
    made = [(datetime.fromtimestamp(n, UTC), str(n)) for n in range(1_000)]
    for number, one in enumerate(made):
        witnesses.learned(one)
        if number % 7 == 6:
            witnesses.look()
    found = witnesses.look()
    assert len(found) <= 10
    assert int(found[-1]) == 999, "the newest: it is lost, whatever else is"
    witnesses.begin_anew(reversed(made))
    assert witnesses.look()[-1] == "999"
    assert len(witnesses.look()) <= 8


@pytest.mark.parametrize(
    ("day", "before"),
    [("2026-03-01", "2026-02"), ("2026-03-31", "2026-02"), ("2026-01-01", "2025-12"), ("2026-12-31", "2026-11")],
)
def test_the_month_before_is_the_one_that_ended_last(day: str, before: str) -> None:
    assert month_before(datetime.fromisoformat(day).replace(tzinfo=UTC)) == before
