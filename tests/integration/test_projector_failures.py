"""When the world fails under a projector: the database away, an answer lost, a long sleep, a defect, no broker."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupLoadInProgressError
from pydantic import SecretStr

from operations.settings import TopicSettings
from operations.setup import create_topics
from projector.app import run_projector
from projector.consuming import run
from projector.liveness.stops import StopCause, cause_of
from projector.settings import ProjectorSettings
from projector.writing import apply
from telemetry.health import Probe
from tests.conftest import Footfall
from tests.drivers.own_broker import OwnBroker
from tests.patience import PATIENCE
from tests.processes import Process, is_ready, wait_until
from tests.producing import (
    Flow,
    an_event,
    assert_exactly_once,
    checkpoints,
    logged,
    metric,
    processed,
    produce,
    record_of,
    rows,
    some_records,
    sql,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)
from tests.servers import Servers
from tests.shipped_types import SHIPPED
from tests.tcp_proxy import TcpProxy, tcp_proxy

MEMORY_BOUND = 48  # MiB more than before an outage


@pytest.fixture
def proxy(footfall: Footfall) -> Iterator[TcpProxy]:
    """A proxy in front of the PostgreSQL of `footfall`."""
    parts = urlsplit(footfall.servers.projector_url)
    assert parts.hostname is not None
    with tcp_proxy(parts.hostname, parts.port or 5432) as found:
        yield found


def start_behind(proxy: TcpProxy, footfall: Footfall, **environment: str) -> Process:
    return start_projector(footfall, DATABASE_URL=proxy.in_front_of(footfall.servers.projector_url), **environment)


def resident_mib(process: Process) -> float:
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def dependencies(process: Process) -> dict[str, Any]:
    answer = httpx.get(f"{process.url}/health/ready", timeout=PATIENCE)
    return {"status": answer.status_code, **answer.json()["dependencies"]}


def test_postgresql_away_under_load_costs_nothing_but_time(footfall: Footfall, proxy: TcpProxy) -> None:
    # However long this machine needs for eight tries, the partitions are not yet said to wait too long.
    projector = start_behind(proxy, footfall, WATCHDOG_INTERVAL_MS=str(int(PATIENCE * 1000)))
    produce(footfall, some_records(3_000))
    wait_until_processed(footfall, 3_000)
    with Flow(footfall.servers.kafka, footfall.topic) as flow:
        wait_until_processed(footfall, 3_200)
        before = resident_mib(projector)
        proxy.cut()
        produce(footfall, some_records(20_000))
        wait_until(lambda: metric(projector, "projection_retries_total") >= 8, 30, "some retries")
        during = dependencies(projector)
        assert during["status"] == 503
        assert not during["postgres"]["ok"]
        assert during["kafka"]["ok"]
        assert during["partitions"]["ok"]  # nobody's fault but PostgreSQL's
        assert resident_mib(projector) - before < MEMORY_BOUND
        proxy.mend()
    wait_until_processed(footfall, 23_000 + flow.sent)
    assert projector.popen.poll() is None
    wait_until(lambda: is_ready(projector), 30, "readiness, which looks at facts of its own")
    assert_exactly_once(footfall)


def test_a_claim_waits_for_postgresql_however_long(footfall: Footfall, proxy: TcpProxy) -> None:
    """A rebalance while PostgreSQL is away: partitions are claimed when it is back, by whoever has them then."""
    first = start_behind(proxy, footfall)
    wait_until_owning(first, 6)
    produce(footfall, some_records(300))
    wait_until_processed(footfall, 300)
    proxy.cut()
    produce(footfall, some_records(300))
    second = start_projector(footfall)  # its way to PostgreSQL is open
    wait_until_owning(second, 3)
    wait_until(lambda: "partitions_assigned" in first.log_text().rpartition("partitions_claimed")[2], 20, "a rebalance")
    proxy.mend()
    wait_until_owning(first, 3)
    wait_until_processed(footfall, 600)
    assert_exactly_once(footfall)


def test_a_lost_answer_to_a_commit_doubles_nothing(footfall: Footfall, proxy: TcpProxy) -> None:
    """PostgreSQL committed, and the projector cannot know: it tries again, is fenced, and reads its position anew."""
    projector = start_behind(proxy, footfall)
    wait_until_owning(projector, 6)
    goal = 0
    for times, (marker, count) in enumerate([(b"COMMIT", 2_000), (b"lost-answer", 3)], start=1):  # COPY, INSERT
        goal += count
        # Not to a COMMIT of the sessions that look at the server.
        proxy.lose_answer_to(marker, after=b"COPY " if marker == b"COMMIT" else b"")
        produce(footfall, [record_of(an_event("lost-answer", {"n": n}), 0) for n in range(count)])
        wait_until_processed(footfall, goal)
        assert proxy.answer_lost.is_set()
        wait_until_fenced(projector, times)
        wait_until_owning(projector, 6)  # claimed again
    wait_until(lambda: is_ready(projector), 30, "readiness, which looks at facts of its own")
    assert_exactly_once(footfall)


def wait_until_fenced(projector: Process, times: int) -> None:
    wait_until(lambda: metric(projector, "batches_fenced_total") >= times, 20, f"{times} batches to be fenced")


def test_one_who_slept_through_the_takeover_changes_nothing(footfall: Footfall, proxy: TcpProxy) -> None:
    """Its batch is on the way to PostgreSQL, held by the proxy, while another takes over and finishes the work."""
    sleeper = start_behind(proxy, footfall)
    wait_until_owning(sleeper, 6)
    produce(footfall, some_records(200))
    wait_until_processed(footfall, 200)
    proxy.freeze(answers=False)
    produce(footfall, some_records(400))
    wait_until(proxy.holding.is_set, 20, "the batch to be on its way")
    sleeper.popen.send_signal(signal.SIGSTOP)
    heir = start_projector(footfall)
    wait_until_owning(heir, 6)
    wait_until_processed(footfall, 600)
    before = rows(footfall), checkpoints(footfall)
    proxy.thaw()
    sleeper.popen.send_signal(signal.SIGCONT)
    wait_until_fenced(sleeper, 1)
    assert logged(sleeper, "batch_fenced")
    stored, moved = rows(footfall), checkpoints(footfall)
    assert stored == before[0]
    assert {p: row["next_offset"] for p, row in moved.items()} == {p: r["next_offset"] for p, r in before[1].items()}
    wait_until_owning(sleeper, 3)  # and it is of use again
    wait_until_owning(heir, 3)
    produce(footfall, some_records(400))
    wait_until_processed(footfall, 1_000)
    assert_exactly_once(footfall)


def test_one_who_sleeps_in_the_middle_of_a_copy_does_not_keep_its_locks(footfall: Footfall, proxy: TcpProxy) -> None:
    """PostgreSQL waits for the rest of the COPY, with the checkpoint locked; the heir must not wait with it."""
    sleeper = start_behind(proxy, footfall)
    wait_until_owning(sleeper, 6)
    proxy.freeze_at(b"PGCOPY")
    produce(footfall, some_records(2_000))
    wait_until(proxy.holding.is_set, 20, "the COPY to begin")
    sleeper.popen.send_signal(signal.SIGSTOP)
    heir = start_projector(footfall)
    wait_until_owning(heir, 6, within=20)
    wait_until_processed(footfall, 2_000)
    proxy.thaw()
    sleeper.popen.send_signal(signal.SIGCONT)
    wait_until_owning(sleeper, 3)
    produce(footfall, some_records(300))
    wait_until_processed(footfall, 2_300)
    assert_exactly_once(footfall)


REFUSES_ALL = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck'; END $$
"""
REFUSAL = """
CREATE TRIGGER refuse BEFORE INSERT ON read_g1.processed_events FOR EACH ROW EXECUTE FUNCTION public.refuse()
"""


def test_a_defect_stops_its_partition_with_a_name_and_loses_nothing(footfall: Footfall) -> None:
    projector = footfall.start("projector", LOG_LEVEL="DEBUG")
    wait_until_owning(projector, 6)
    produce(footfall, [record_of(an_event("fine"), 2)])
    wait_until_processed(footfall, 1)
    sql(footfall.servers, REFUSES_ALL)
    sql(footfall.servers, REFUSAL)
    produce(footfall, [record_of(an_event("secret-user", {"n": n}), 2) for n in range(150)])
    wait_until(lambda: metric(projector, "partitions_stopped") == 1, 20, "the partition to stop")
    found = dependencies(projector)
    assert found["status"] == 503
    assert found["partitions"]["detail"].startswith("stopped partitions: 2: defect: ")
    assert "RaiseError P0001" in found["partitions"]["detail"]
    assert found["postgres"]["ok"]
    assert metric(projector, "partitions_owned") == 5
    (line,) = logged(projector, "partitions_stopped")
    assert cause_of(line["reasons"]["2"]) is StopCause.DEFECT
    assert logged(projector, "batch_failed")[0]["sqlstate"] == "P0001"
    assert "secret-user" not in projector.log_text()
    assert processed(footfall) == 1
    sql(footfall.servers, "DROP FUNCTION public.refuse CASCADE")
    produce(footfall, [record_of(an_event("fine"), 3)])
    wait_until_processed(footfall, 152, 60)  # the others flow on, and this one goes on by itself
    wait_until(lambda: metric(projector, "partitions_stopped") == 0, 20, "the stop to be over")
    assert metric(projector, "partitions_probed_total") >= 1
    wait_until(lambda: checkpoints(footfall)[2]["stopped_reason"] is None, 20, "that to be written down")
    wait_until(lambda: is_ready(projector), 20, "the projector to be ready")
    assert_exactly_once(footfall)


POISON = "SELECT DISTINCT error_message FROM read_g1.dead_letters WHERE cause = 'poison'"


def test_a_value_that_postgresql_refuses_is_not_quoted_in_the_log(footfall: Footfall) -> None:
    sql(footfall.servers, "ALTER TABLE read_g1.processed_events ADD CONSTRAINT no_secrets CHECK (user_id !~ 'secret')")
    projector = footfall.start("projector", LOG_LEVEL="DEBUG")
    produce(footfall, [record_of(an_event("secret-user", {"pin": "secret-pin"}), p) for p in range(2)])
    produce(footfall, [record_of(an_event("secret-user", {"pin": "secret-pin"}), 2) for _ in range(150)])
    wait_until(lambda: metric(projector, "dead_letters_parked_total") == 152, 30, "the records to be parked")
    assert {line["constraint"] for line in logged(projector, "batch_failed")} == {"no_secrets"}
    (words,) = {row["error_message"] for row in sql(footfall.servers, POISON)}
    assert "secret" not in words
    assert "secret-user" not in projector.log_text()
    assert "secret-pin" not in projector.log_text()


def test_it_drains_in_time_though_postgresql_is_away(footfall: Footfall, proxy: TcpProxy) -> None:
    projector = start_behind(proxy, footfall)
    wait_until_owning(projector, 6)
    proxy.cut()
    produce(footfall, some_records(100))
    wait_until(lambda: metric(projector, "projection_retries_total") >= 2, 20, "a retry")
    assert projector.terminate(within=10) == 0
    proxy.mend()
    start_behind(proxy, footfall)
    wait_until_processed(footfall, 100)
    assert_exactly_once(footfall)


@asynccontextmanager
async def no_probes(probes: Mapping[str, Probe]) -> AsyncIterator[None]:
    assert probes
    yield


def project_here(footfall: Footfall, database_url: str, scenario: Callable[[], None]) -> None:
    """Runs a projector in this process, which a test may tamper with, while `scenario` runs in a thread."""
    settings = ProjectorSettings(
        database_url=SecretStr(database_url),
        kafka_bootstrap_servers=footfall.servers.kafka,
        kafka_topic=footfall.topic,
        kafka_group_id=footfall.group,
        kafka_session_timeout_ms=2_000,
        kafka_heartbeat_interval_ms=300,
    )

    async def both() -> None:
        stop = asyncio.Event()
        projecting = asyncio.create_task(run_projector(settings, SHIPPED, stop, no_probes))
        await asyncio.to_thread(scenario)
        stop.set()
        await projecting

    asyncio.run(both())


def test_a_connection_that_went_silent_is_given_up(
    footfall: Footfall, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reset, no answer: what a vanished host or a forgetful firewall looks like."""
    monkeypatch.setattr(apply, "DATABASE_TIMEOUT", 2.0)
    monkeypatch.setattr(apply, "RELEASE_TIMEOUT", 0.5)

    def scenario() -> None:
        produce(footfall, some_records(300))
        wait_until_processed(footfall, 300)
        proxy.forget()
        produce(footfall, some_records(300))
        wait_until_processed(footfall, 600)

    project_here(footfall, proxy.in_front_of(footfall.servers.projector_url), scenario)
    assert_exactly_once(footfall)


@pytest.mark.parametrize(
    ("work", "error"),
    [
        ("_do_heartbeat", GroupLoadInProgressError()),  # what a broker that has just started may answer
        ("_do_rejoin_group", asyncio.InvalidStateError()),  # ends aiokafka's coordination for good
    ],
    ids=["heartbeat", "end"],
)
def test_an_error_that_aiokafka_cannot_handle_does_not_end_the_membership(
    footfall: Footfall, monkeypatch: pytest.MonkeyPatch, work: str, error: Exception
) -> None:
    real = getattr(GroupCoordinator, work)
    failing = threading.Event()

    async def fails_once(*arguments: Any) -> Any:
        if failing.is_set():
            failing.clear()
            raise error
        return await real(*arguments)

    monkeypatch.setattr(run, "MEMBERSHIP_TIMEOUT", 3.0)
    monkeypatch.setattr(GroupCoordinator, work, fails_once)

    def scenario() -> None:
        produce(footfall, some_records(300))
        wait_until_processed(footfall, 300)
        failing.set()
        other = start_projector(footfall)  # makes the group rebalance
        wait_until_owning(other, 3)
        wait_until(lambda: not failing.is_set(), 20, "the error")
        produce(footfall, some_records(300))
        wait_until_processed(footfall, 600)
        wait_until_owning(other, 3)
        other.kill()
        produce(footfall, some_records(300))
        wait_until_processed(footfall, 900)

    project_here(footfall, footfall.servers.projector_url, scenario)
    assert_exactly_once(footfall)


@pytest.fixture
def on_own_broker(
    own_broker: OwnBroker, new_database: Callable[[], Servers], tmp_path: Path
) -> Iterator[tuple[Footfall, OwnBroker]]:
    topic = f"events-{tmp_path.name}"
    create_topics(
        TopicSettings(
            kafka_bootstrap_servers=own_broker.address,
            kafka_topic=topic,
            kafka_dlq_topic=f"{topic}-dlq",
            kafka_partitions=3,
        )
    )
    footfall = Footfall(replace(new_database(), kafka=own_broker.address), topic, tmp_path)
    yield footfall, own_broker
    footfall.close()


def test_a_broker_that_hangs_dies_and_comes_back_costs_nothing_but_time(
    on_own_broker: tuple[Footfall, OwnBroker],
) -> None:
    footfall, broker = on_own_broker
    stopping, staying = start_projector(footfall), start_projector(footfall)
    produce(footfall, some_records(2_000))
    wait_until_processed(footfall, 2_000)
    broker.send_signal(signal.SIGSTOP)
    wait_until(lambda: not dependencies(staying)["kafka"]["ok"], 20, "the projector to notice")
    assert stopping.terminate(within=10) == 0
    broker.kill()
    broker.start()
    produce(footfall, some_records(500))
    wait_until_processed(footfall, 2_500, within=60)  # at worst it takes a new consumer
    wait_until_owning(staying, 3)
    wait_until(lambda: is_ready(staying), 30, "readiness, which looks at facts of its own")
    assert_exactly_once(footfall)
    assert staying.terminate() == 0
