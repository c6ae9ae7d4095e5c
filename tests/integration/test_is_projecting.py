"""Whatever keeps events from being projected is seen, with its reason, where people and supervisors look."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from tests.conftest import Footfall
from tests.drivers.commands import active, as_json, status_here
from tests.processes import Process, wait_until
from tests.producing import (
    an_event,
    metric,
    produce,
    record_of,
    some_records,
    sql,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)
from tests.tcp_proxy import tcp_proxy

PATIENCE = 60.0  # seconds

pytestmark = pytest.mark.timeout(300)  # many commands, each a process
SOON = {"WATCHDOG_INTERVAL_MS": "2000"}  # what stands for 2 s is not well


@contextmanager
def in_a_thread(work: Any) -> Iterator[None]:
    """Runs the coroutine `work(begun, over)` beside the body; the body begins when it says `begun`."""
    begun, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(work(begun, over)), daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def a_stranger(footfall: Footfall, assignor: Any) -> Any:
    """Somebody's consumer that was given our group's name."""

    async def consume(begun: threading.Event, over: threading.Event) -> None:
        consumer = AIOKafkaConsumer(
            footfall.topic,
            bootstrap_servers=footfall.servers.kafka,
            group_id=footfall.group,
            client_id="nightly-export",
            partition_assignment_strategy=[assignor],
            session_timeout_ms=6_000,
            heartbeat_interval_ms=300,
        )
        await consumer.start()
        while not over.is_set():
            await consumer.getmany(timeout_ms=100)
            if consumer.assignment():
                begun.set()
        await consumer.stop()

    return in_a_thread(consume)


def health(process: Process) -> tuple[int, dict[str, Any]]:
    assert process.popen.poll() is None, process.log_text()[-3_000:]
    answer = httpx.get(f"{process.url}/health/ready", timeout=10)
    return answer.status_code, answer.json()["dependencies"]["partitions"]


def unwell(process: Process) -> set[str]:
    """The states that are not well of which `partition_states` counts a partition."""
    text = httpx.get(f"{process.url}/metrics", timeout=10).text
    counted = re.findall(r'^partition_states\{.*state="(\w+)"\} ([0-9.]+)$', text, re.MULTILINE)
    return {state for state, count in counted if float(count) > 0} - {"idle", "running", "held"}


def states(footfall: Footfall) -> list[str]:
    return [each["state"] for each in active(as_json(status_here(footfall, "--json", **SOON)))]


def wait_until_well(footfall: Footfall, projector: Process) -> None:
    wait_until(lambda: health(projector)[0] == 200, PATIENCE, "the projector to be ready")
    assert unwell(projector) == set()
    wait_until(lambda: status_here(footfall, **SOON).returncode == 0, PATIENCE, "all to be well")


def test_a_foreign_consumer_with_another_assignor_that_came_first(footfall: Footfall) -> None:
    with a_stranger(footfall, RangePartitionAssignor):
        projector = footfall.start("projector", ready=False, **SOON)
        produce(footfall, some_records(20))

        def is_named() -> bool:
            try:
                code, found = health(projector)
            except httpx.TransportError:
                return False
            return code == 503 and "InconsistentGroupProtocolError" in found["detail"] and "nightly" in found["detail"]

        wait_until(is_named, PATIENCE, "the projector to say who keeps it out")
        run = status_here(footfall, "--json", **SOON)
        assert run.returncode == 1
        assert {each["state"] for each in active(as_json(run))} == {"foreign"}
        assert "nightly-export" in run.stdout
        assert unwell(projector) == {"foreign"}
        assert httpx.get(f"{projector.url}/health/live").status_code == 200  # a fresh process would fare no better
    wait_until_processed(footfall, 20, PATIENCE)
    wait_until_well(footfall, projector)


def test_a_foreign_consumer_in_our_group_that_holds_half_of_the_partitions(footfall: Footfall) -> None:
    projector = start_projector(footfall, **SOON)
    wait_until_owning(projector, 6)
    with a_stranger(footfall, RoundRobinPartitionAssignor):
        wait_until(lambda: states(footfall).count("foreign") == 3, PATIENCE, "three partitions to be foreign")
        run = status_here(footfall, **SOON)
        assert run.returncode == 1
        assert "client 'nightly-export' at 127.0.0.1" in run.stdout
        wait_until(lambda: "nightly-export" in health(projector)[1]["detail"], PATIENCE, "the projector to say so")
        assert unwell(projector) == {"foreign"}
        assert health(projector)[0] == 503
    wait_until_well(footfall, projector)


def test_an_open_foreign_transaction(footfall: Footfall) -> None:
    projector = start_projector(footfall, **SOON)
    wait_until_owning(projector, 6)

    async def forget_to_commit(begun: threading.Event, over: threading.Event) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=footfall.servers.kafka, transactional_id=f"of-{footfall.topic}")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(footfall.topic, record_of(an_event()).value, partition=2)
        begun.set()
        await asyncio.to_thread(over.wait)
        await producer.commit_transaction()
        await producer.stop()

    with in_a_thread(forget_to_commit):
        produce(footfall, [record_of(an_event(), 2) for _ in range(40)])
        run = status_here(footfall, "--json", "--max-lag", "0", **SOON)
        assert run.returncode == 1
        found = active(as_json(run))[2]
        assert (found["state"], found["lag"]) == ("blocked", 41)
        assert "read_g1, partition 2 lags by 41 events, more than 0." in as_json(run)["problems"]
        wait_until(
            lambda: status_here(footfall, **SOON).returncode == 1,
            PATIENCE,
            "the transaction to be old enough to be said",
        )
        assert "transaction has been open at offset 0" in status_here(footfall, **SOON).stdout
        wait_until(lambda: health(projector)[0] == 503, PATIENCE, "the projector to say so")
        assert unwell(projector) == {"blocked"}
        query_side = footfall.start("query-side")
        answer = httpx.get(f"{query_side.url}/events/processed?position=2-40", headers={"prefer": "wait=0"}, timeout=30)
        assert (answer.status_code, "footfall-reached" in answer.headers) == (503, False)
        assert "it has nothing of that partition yet" in answer.json()["error"]
    wait_until_processed(footfall, 41, PATIENCE)
    wait_until(lambda: status_here(footfall, "--max-lag", "0", **SOON).returncode == 0, PATIENCE, "all to be well")


def test_a_lock_in_the_way(footfall: Footfall) -> None:
    projector = start_projector(footfall, **SOON)
    wait_until_owning(projector, 6)

    async def hold(begun: threading.Event, over: threading.Event) -> None:
        connection = await asyncpg.connect(
            footfall.servers.admin_url, server_settings={"application_name": "quarterly report"}
        )
        async with connection.transaction():
            await connection.execute("LOCK TABLE read_g1.processed_events IN ACCESS EXCLUSIVE MODE")
            begun.set()
            await asyncio.to_thread(over.wait)
        await connection.close()

    with in_a_thread(hold):
        produce(footfall, [record_of(an_event(), 1)])
        for url in (footfall.servers.query_url, footfall.servers.projector_url):
            wait_until(lambda url=url: waits(footfall, url), PATIENCE, "the lock to be seen")  # type: ignore[misc]
        wait_until(lambda: health(projector)[0] == 503, PATIENCE, "the projector to say so")
        assert "'quarterly report'" in health(projector)[1]["detail"]
        assert unwell(projector) == {"waiting"}
        assert status_here(footfall, **SOON).returncode == 1
    wait_until_processed(footfall, 1, PATIENCE)
    wait_until_well(footfall, projector)


def waits(footfall: Footfall, url: str) -> bool:
    found = active(as_json(status_here(footfall, "--json", url=url, **SOON)))[1]
    return found["state"] == "waiting" and "'quarterly report'" in found["reason"]


def test_every_batch_meets_a_timeout(footfall: Footfall) -> None:
    """PostgreSQL answers, the partition is held, nothing is anybody's fault, and the lag only grows."""
    projector = start_projector(footfall, **SOON)
    wait_until_owning(projector, 6)
    sql(footfall.servers, "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'too slow' USING ERRCODE = 'query_canceled'; END $$")  # fmt: skip
    sql(footfall.servers, "CREATE TRIGGER late BEFORE INSERT ON read_g1.processed_events EXECUTE FUNCTION late()")
    produce(footfall, [record_of(an_event(), 1) for _ in range(5)])
    wait_until(lambda: health(projector)[0] == 503, PATIENCE, "the projector to say so")
    assert "QueryCanceledError (57014)" in health(projector)[1]["detail"]
    assert unwell(projector) in ({"waiting"}, {"standing"})
    run = status_here(footfall, "--json", **SOON)
    assert run.returncode == 1
    assert active(as_json(run))[1]["state"] in ("standing", "waiting")
    sql(footfall.servers, "DROP TRIGGER late ON read_g1.processed_events")
    wait_until_processed(footfall, 5, PATIENCE)
    wait_until_well(footfall, projector)


def test_postgresql_away_hides_neither_state_nor_lag_and_counts_where_nothing_is_to_be_projected(
    footfall: Footfall,
) -> None:
    where = urlsplit(footfall.servers.projector_url)
    away, waiting = (
        'projection_obstacles_total{reason="away"}',
        'partition_states{generation="read_g1",state="waiting"}',
    )
    with tcp_proxy(str(where.hostname), where.port or 5432) as proxy:
        url = proxy.in_front_of(footfall.servers.projector_url)
        projector = start_projector(footfall, DATABASE_URL=url, **SOON)
        wait_until_owning(projector, 6)
        proxy.cut()
        wait_until(lambda: metric(projector, away) > 0, 30, "an attempt to be counted")
        produce(footfall, some_records(60))
        wait_until(lambda: metric(projector, waiting) == 6, 30, "the state of every partition")
        wait_until(lambda: metric(projector, "projection_lag_events") == 60, 30, "the lag to be told")
        wait_until(lambda: "has not succeeded in" in health(projector)[1]["detail"], 30, "health to say why")
        proxy.mend()
        wait_until(lambda: metric(projector, "projection_lag_events") == 0, 30, "the events to be projected")
