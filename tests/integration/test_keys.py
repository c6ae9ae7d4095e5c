"""Keys over a real Kafka: the register's topic, processes that follow it, `footfall keys`, and every route."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from click.testing import CliRunner

from brokers.settings import KafkaSettings
from footfall.cli.main import cli
from identity.keys.administration import KeyRefusedError, Wanted, create, revoke, rotate
from identity.keys.key_text import digest_of
from identity.keys.reader import LATE, RegisterReader
from identity.keys.topic import RegisterTopic, ensure_topic, opened
from tests.conftest import Footfall
from tests.drivers.own_broker import OwnBroker
from tests.drivers.raw_http import until
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.servers import Servers
from tests.topic_reader import records_of

SECRET = Wanted("secret", "acme", "backend", "test")


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return f"{new_topic(1)}-keys"


@pytest.fixture
def options(real_servers: Servers) -> dict[str, Any]:
    return KafkaSettings(kafka_bootstrap_servers=real_servers.kafka).client_options()


@pytest_asyncio.fixture
async def register(options: dict[str, Any], topic: str) -> AsyncIterator[RegisterTopic]:
    await ensure_topic(options, topic, 1)
    async with opened(options, topic) as found:
        yield found


async def test_every_reader_learns_of_a_key_and_of_its_end(
    options: dict[str, Any], topic: str, register: RegisterTopic
) -> None:
    before = await create(register, SECRET)
    readers = [RegisterReader(options, topic, stale_after=60.0) for _ in range(2)]
    async with readers[0].running(), readers[1].running():
        await until(lambda: all(knows(reader, before.key) for reader in readers))
        made = await create(register, SECRET)
        await until(lambda: all(knows(reader, made.key) for reader in readers))
        await revoke(register, made.record.key_id)
        await until(lambda: all(is_revoked(reader, made.key) for reader in readers))
        assert [(await reader.state()).ok for reader in readers] == [True, True]


async def test_a_reader_without_a_topic_knows_nothing_and_accepts_nothing(options: dict[str, Any], topic: str) -> None:
    reader = RegisterReader(options, f"{topic}-none", stale_after=60.0)
    async with reader.running():
        await until(lambda: "it was not read yet" not in reader._trouble)
        state = await reader.state()
        assert (state.ok, reader.register()) == (False, None)
        assert "the register of keys is not known" in state.detail


async def test_two_texts_are_valid_at_a_time_and_a_revoked_key_is_rotated_no_more(register: RegisterTopic) -> None:
    made = await create(register, SECRET)
    key_id = made.record.key_id
    rotated = await rotate(register, key_id, timedelta(hours=1))
    found = await register.read()
    assert all(found.find(digest_of(text.encode())) for text in (made.key, rotated.key))
    with pytest.raises(KeyRefusedError, match="Two texts"):
        await rotate(register, key_id, timedelta(hours=1))
    await revoke(register, key_id)
    for refused in (rotate(register, key_id, timedelta(hours=1)), revoke(register, key_id)):
        with pytest.raises(KeyRefusedError, match="was revoked at"):
            await refused


async def test_a_revocation_wins_over_a_rotation_at_the_same_time(
    options: dict[str, Any], topic: str, register: RegisterTopic
) -> None:
    made = await create(register, SECRET)
    async with opened(options, topic) as other:
        await other.read()
        await revoke(register, made.record.key_id)
        assert (await other.write(made.record)).revoked_at is not None
    async with opened(options, topic) as fresh:
        assert (await fresh.read()).records[made.record.key_id].revoked_at is not None


def test_the_command_makes_lists_rotates_and_revokes(real_servers: Servers, topic: str) -> None:
    environment = {"ENVIRONMENT": "test", "KAFKA_BOOTSTRAP_SERVERS": real_servers.kafka, "KAFKA_KEYS_TOPIC": topic}
    environment["COLUMNS"] = "200"

    def keys(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["keys", *arguments], env=environment)
        assert result.exit_code == code, result.output
        return result.output if code else result.stdout

    public = ("create", "--kind", "public", "--name", "shop", "--tenant", "acme", "--origin", "https://shop.example")
    key = keys(*public).strip()
    assert key.startswith("ffw_")
    [listed] = json.loads(keys("list", "--json"))
    assert (listed["tenantId"], listed["scopes"], listed["state"]) == ("acme", ["events:write"], "valid")
    again = json.loads(keys("rotate", listed["keyId"], "--json"))
    assert again["state"] == "rotating"
    assert again["key"] not in (key, "")
    assert "Two texts" in keys("rotate", listed["keyId"], code=1)
    assert "is revoked" in keys("revoke", listed["keyId"])
    assert "was revoked at" in keys("revoke", listed["keyId"], code=1)
    assert "at least one origin" in keys("create", "--kind", "public", "--name", "x", code=1)
    assert "is no scope" in keys("create", "--kind", "secret", "--name", "x", "--scope", "all", code=2)
    table = keys("list")
    assert "revoked" in table
    written = b"".join(record.value for record in records_of(real_servers.kafka, topic))
    for text in (key, again["key"]):
        assert text[4:].encode() not in written
        assert text[4:] not in table


def test_the_command_refuses_a_topic_that_would_lose_keys(real_servers: Servers, new_topic: Callable[..., str]) -> None:
    for partitions, sentence in ((1, "cleanup.policy=delete"), (2, "has 2 partitions")):
        environment = {"KAFKA_BOOTSTRAP_SERVERS": real_servers.kafka, "KAFKA_KEYS_TOPIC": new_topic(partitions)}
        result = CliRunner().invoke(cli, ["keys", "list"], env={"ENVIRONMENT": "test", **environment})
        assert result.exit_code == 1
        assert sentence in result.output


def knows(reader: RegisterReader, key: str) -> bool:
    register = reader.register()
    return register is not None and register.find(digest_of(key.encode())) is not None


def is_revoked(reader: RegisterReader, key: str) -> bool:
    register = reader.register()
    found = None if register is None else register.find(digest_of(key.encode()))
    return found is not None and found.is_revoked


def test_processes_open_to_keys_and_to_nothing_else(footfall: Footfall) -> None:
    environment = {"AUTH": "keys", "KAFKA_KEYS_TOPIC": f"{footfall.topic}-keys"}

    def keys(*arguments: str) -> str:
        result = CliRunner().invoke(
            cli, ["keys", *arguments], env={"ENVIRONMENT": "test", **footfall.environment(), **environment}
        )
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    front = footfall.start("front", ready=False, **environment)
    wait_until(lambda: asked(front.url, "/health/live") == 200, 30, "the front to listen")
    assert asked(front.url, "/health/ready") == 503, "nobody has made a register of keys yet"
    assert asked(front.url, "/events/feed", "ffs_" + "a" * 43) == 503
    created = json.loads(keys("create", "--kind", "secret", "--name", "test", "--json"))
    operator = keys("create", "--kind", "operator", "--name", "test")
    key = created["key"]
    wait_until(lambda: asked(front.url, "/health/ready") == 200, 30, "the front to be ready")
    others = [footfall.start(name, ready=False, **environment) for name in ("command-side", "query-side", "console")]
    projector = footfall.start("projector", ready=True, **environment)
    for process in others:
        wait_until(lambda at=process.url: asked(at, "/health/ready") == 200, 30, "every process")  # type: ignore[misc]
    command = {"userId": "u", "eventType": "LOGIN"}
    for shown, status in ((None, 401), (key, 201), (operator, 201), (key[:-1], 401)):
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        assert httpx.post(f"{front.url}/events/generate", json=command, headers=headers).status_code == status
    processes = (front, projector, *others)
    for process in processes:
        assert [asked(process.url, "/metrics", shown) for shown in (None, key, operator)] == [401, 403, 200]
        ready = httpx.get(f"{process.url}/health/ready", headers={"Authorization": f"Bearer {operator}"}).json()
        assert ready["dependencies"]["keys"] == {"ok": True, "detail": ""}
        assert httpx.get(f"{process.url}/health/ready").json() == {"status": "ok"}
    narrow = keys("create", "--kind", "secret", "--name", "reader", "--scope", "events:read")
    wait_until(lambda: asked(front.url, "/events/processed?limit=1", narrow) == 200, 30, "the new key")
    assert [asked(front.url, "/events/processed", shown) for shown in (narrow, key)] == [403, 200], "all is an export"
    metrics = httpx.get(f"{front.url}/metrics", headers={"Authorization": f"Bearer {operator}"}).text
    assert f'key_last_use_seconds{{key="{created["keyId"]}"}}' in metrics
    shown = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", f"{front.url}/events/stream", headers=shown, timeout=PATIENCE) as answer:
        told = answer.iter_text()
        assert "event: begin" in next(told)
        keys("revoke", created["keyId"])
        assert '"reason":"credentials"' in "".join(told), "the stream ended, and said why"
    for process in processes:
        wait_until(lambda at=process.url: asked(at, "/metrics", key) == 401, 10, "the revocation")  # type: ignore[misc]
        assert key not in process.log_text()
        changes = changes_by_seconds(process.url, operator)
        assert changes["2.0"] == changes["+Inf"] >= 2, f"a key was made and one revoked; {changes}"


def changes_by_seconds(url: str, key: str) -> dict[str, int]:
    """How many changes of keys a process has known within so many seconds of their writing."""
    metrics = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"}).text
    return {
        le: int(float(n))
        for le, n in re.findall(r'^key_change_seconds_bucket{le="([^"]+)"} (\S+)$', metrics, re.MULTILINE)
    }


def asked(url: str, path: str, key: str | None = None) -> int:
    """The status of a GET; 0 while nobody listens."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return httpx.get(f"{url}{path}", headers=headers).status_code
    except httpx.TransportError:
        return 0


async def test_a_reader_that_lost_kafka_serves_what_it_knows_says_so_and_hears_again(tmp_path: Path) -> None:
    broker = OwnBroker(tmp_path)
    try:
        options = KafkaSettings(kafka_bootstrap_servers=broker.address).client_options()
        await ensure_topic(options, "keys", 1)
        async with opened(options, "keys") as register:
            made = await create(register, SECRET)
        reader = RegisterReader(options, "keys", stale_after=600.0)
        async with reader.running():
            await until(lambda: knows(reader, made.key))
            await asyncio.to_thread(broker.stop)
            await until(lambda: reader.age() > LATE)
            state = await reader.state()
            assert state.ok
            assert "keys revoked or made since are not known" in state.detail
            assert knows(reader, made.key)
            await asyncio.to_thread(broker.start)
            await until(lambda: reader.age() <= LATE)
            async with opened(options, "keys") as register:
                await revoke(register, made.record.key_id)
            await until(lambda: is_revoked(reader, made.key))
            assert (await reader.state()).detail == ""
    finally:
        broker.stop()
