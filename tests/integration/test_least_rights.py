"""Each part of Footfall works with exactly the rights that docs/transport.md names, and a missing one is named."""

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from click.testing import CliRunner, Result

from brokers.rights import AUDIT, DEAD_LETTERS, EVENTS, GROUP, KEYS, LEAST, Right, least_rights
from footfall.cli.main import cli
from footfall.local.embedded.kafka.accounts import rules_of
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, record_of, send, sql
from tests.secured_broker import SecuredBroker
from tests.servers import Servers

NAMES = {EVENTS: "least", DEAD_LETTERS: "least-dlq", GROUP: "group-of-least", KEYS: "least-keys", AUDIT: "least-audit"}
KeyAndValue = tuple[bytes | None, bytes | None]
COMMAND = {"userId": "user-1", "eventType": "PRODUCT_VIEW", "payload": {"productId": "p-1"}}


def user_of(secured: SecuredBroker, part: str, name: str) -> dict[str, str]:
    """What a process reads to come as a user with exactly the rights of that part."""
    return secured.user(name, *rules_of(name, least_rights(part, NAMES)))


@pytest.fixture
def footfall(secured: SecuredBroker, new_database: Callable[[], Servers], tmp_path: Path) -> Iterator[Footfall]:
    instance = Footfall(replace(new_database(), kafka=f"127.0.0.1:{secured.port}"), NAMES[EVENTS], tmp_path)
    yield instance
    instance.close()


def run(footfall: Footfall, command: str, user: dict[str, str], url: str = "") -> Result:
    environment = {"ENVIRONMENT": "test", **footfall.environment(), **user}
    return CliRunner().invoke(cli, command.split(), env={**environment, **({"DATABASE_URL": url} if url else {})})


def kafka_state(process: Process) -> tuple[bool, str]:
    try:
        found = httpx.get(f"{process.url}/health/ready", timeout=PATIENCE).json()["dependencies"]["kafka"]
    except httpx.TransportError:
        return False, ""
    return found["ok"], found["detail"]


def told(process: Process) -> tuple[bool, str]:
    """As `kafka_state`, without that what is withheld cannot be seen either."""
    ok, detail = kafka_state(process)
    return ok, detail.replace(" (nor DESCRIBE it)", "")


def test_the_demo_flows_with_exactly_these_rights(secured: SecuredBroker, footfall: Footfall) -> None:
    creating = run(footfall, "topics create", user_of(secured, "`topics create`", "creator"))
    assert creating.exit_code == 0, creating.output
    command_side = footfall.start("command-side", ready=True, **user_of(secured, "command side", "commander"))
    projector = footfall.start("projector", ready=True, **user_of(secured, "projector", "projector"))
    query_side = footfall.start("query-side")

    answer = httpx.post(f"{command_side.url}/events/generate", json=COMMAND)
    assert answer.status_code == 201, answer.text
    asyncio.run(send(topic=NAMES[EVENTS], records=[Raw(b"no json", b"user-2")], kafka="", **secured.options))
    seen = f"{query_side.url}/events/{answer.json()['event']['eventId']}"
    wait_until(lambda: httpx.get(seen).status_code == 200, 30, "the row")
    assert kafka_state(projector)[0]

    replayed = run(footfall, "replay", user_of(secured, "`replay`, `rebuild`", "reader"))
    assert '"userId":"user-1"' in replayed.output.replace(" ", ""), replayed.output
    watcher = user_of(secured, "`status`", "watcher")
    status = run(footfall, "status --json", watcher, footfall.servers.projector_url)
    warnings = json.loads(status.stdout)["warnings"]
    assert all("could not be checked" in warning for warning in warnings), warnings  # DESCRIBE_CONFIGS is not given
    assert status.exit_code == 0, status.output
    wait_until(lambda: asyncio.run(dead_letters(secured)) == 1, 60, "the dead letter in its topic")
    rebuilding = user_of(secured, "`replay`, `rebuild`", "rebuilder")
    started = run(footfall, "rebuild start", rebuilding, footfall.servers.admin_url)
    assert started.exit_code == 0, started.output
    verified = run(footfall, "rebuild verify", rebuilding, footfall.servers.admin_url)
    assert "AuthorizationFailed" not in verified.output
    auditor = user_of(secured, "`audit`", "auditor")
    audited = run(footfall, "audit verify", auditor, footfall.servers.admin_url)
    assert audited.exit_code == 0, audited.output
    eraser = user_of(secured, "`privacy`", "eraser")
    erased = run(footfall, "privacy erase user-1 --yes", eraser, footfall.servers.admin_url)
    assert erased.exit_code == 0, erased.output


def test_a_rewrite_without_counts_and_one_that_is_abandoned_need_exactly_these_rights(
    secured: SecuredBroker, footfall: Footfall
) -> None:
    """The erased user's events, a dead letter among them, become blanks; nothing else changes, and no count is kept."""
    names = {**NAMES, EVENTS: "rewritten", DEAD_LETTERS: "letters", AUDIT: "rewritten-audit", GROUP: "rewriting"}
    footfall.topic, url = "rewritten", footfall.servers.admin_url
    letters_topic = {"KAFKA_DLQ_TOPIC": names[DEAD_LETTERS]}
    creator = secured.user("topics", *rules_of("topics", least_rights("`topics create`", names)))
    assert run(footfall, "topics create", creator | letters_topic).exit_code == 0
    projecting = secured.user("projecting", *rules_of("projecting", least_rights("projector", names)))
    projecting |= {"KAFKA_GROUP_ID": names[GROUP], **letters_topic}
    projector = footfall.start("projector", ready=True, **projecting)
    records = [record_of(an_event(user, {"productId": "p-1", "of": user})) for user in ("alice", "bob", "alice")]
    asyncio.run(send(topic="rewritten", records=[*records, Raw(b"alice", b"alice")], kafka="", **secured.options))
    letters = "SELECT FROM read_g1.dead_letters WHERE published_at IS NOT NULL"
    wait_until(lambda: len(sql(footfall.servers, letters)) == 1, 60, "the letter to be published")
    eraser = secured.user("erasing", *rules_of("erasing", least_rights("`privacy`", names)))
    assert run(footfall, "privacy erase alice --yes", eraser, url).exit_code == 0
    before = asyncio.run(all_records(secured, "rewritten", "letters"))
    assert "alice" in str(before)

    rights = least_rights("`privacy rewrite`", names)
    rewriter = secured.user("rewriter", *rules_of("rewriter", rights[:-1])) | letters_topic

    def step(*arguments: str) -> Result:
        return run(footfall, " ".join(("privacy rewrite", *arguments)), rewriter, url)

    for arguments in (("copy", "--no-counts"), ("verify",)):
        assert step(*arguments).exit_code == 0
    assert_blanks(before, asyncio.run(all_records(secured, "rewritten.1", "letters.1")))
    refused = step("abandon", "--yes")  # one right is missing: it is told, and the step is done once it is there
    assert refused.exit_code == 1
    assert "does not let this user ALTER_CONFIGS on topic letters" in " ".join(refused.output.split())
    secured.allow(*rules_of("rewriter", rights[-1:]))
    assert step("abandon", "--yes").exit_code == 0
    assert asyncio.run(all_records(secured, "rewritten", "letters")) == before
    if os.environ.get("FOOTFALL_LONG"):
        for arguments in (("copy", "--no-counts"), ("switch", "--yes"), ("finish", "--yes")):
            assert step(*arguments).exit_code == 0
        assert_blanks(before, asyncio.run(all_records(secured, "rewritten.1", "letters.1")))
    assert projector.terminate() == 0


def assert_blanks(before: Sequence[KeyAndValue], after: Sequence[KeyAndValue]) -> None:
    """Every record of alice is a blank, and every other is as it was."""
    assert "alice" not in str(after)
    assert [record for record in before if record[0] == b"bob"] == [record for record in after if record[0] == b"bob"]
    assert len(after) == len(before)


async def all_records(secured: SecuredBroker, *topics: str) -> list[KeyAndValue]:
    """Key and value of every record, by place."""
    async with AIOKafkaConsumer(**secured.options, auto_offset_reset="earliest") as consumer:
        found: list[ConsumerRecord[Any, Any]] = []
        for topic in topics:
            await consumer.topics()
            await consumer.beginning_offsets([TopicPartition(topic, 0)])
            places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
    placed = sorted(found, key=lambda record: (topics.index(record.topic), record.partition, record.offset))
    return [(record.key, record.value) for record in placed]


def test_keys_are_made_and_read_with_exactly_these_rights(secured: SecuredBroker, footfall: Footfall) -> None:
    keys_topic = {"KAFKA_KEYS_TOPIC": NAMES[KEYS]}
    keeper = {**user_of(secured, "`keys`", "keeper"), **keys_topic}
    made = run(footfall, "keys create --kind secret --name test --json", keeper)
    assert made.exit_code == 0, made.output
    key = json.loads(made.stdout)["key"]
    door = {**user_of(secured, "every process with AUTH=keys", "door"), **keys_topic, "AUTH": "keys"}
    query_side = footfall.start("query-side", ready=False, **door)

    def status_with(key: str) -> int:
        try:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{query_side.url}/events/processed", headers=headers, timeout=PATIENCE).status_code
        except httpx.TransportError:
            return 0

    wait_until(lambda: status_with(key) == 200, 30, "the key to be known")
    assert status_with(key[:-1]) == 401
    rights = [right for right in least_rights("`keys`", NAMES) if right.operation != "DESCRIBE_CONFIGS"]
    blind = {**secured.user("blind", *rules_of("blind", rights)), **keys_topic}
    refused = run(footfall, "keys list", blind)
    assert refused.exit_code == 1
    assert f"may not read the settings of {NAMES[KEYS]}: grant it DESCRIBE_CONFIGS" in " ".join(refused.output.split())


async def dead_letters(secured: SecuredBroker) -> int:
    async with AIOKafkaConsumer(**secured.options) as consumer:
        await consumer.topics()
        partitions = [TopicPartition(NAMES[DEAD_LETTERS], number) for number in range(6)]
        return sum((await consumer.end_offsets(partitions)).values())


def test_readiness_names_each_right_that_is_missing(secured: SecuredBroker, footfall: Footfall) -> None:
    topic = {**NAMES, EVENTS: "meagre", DEAD_LETTERS: "meagre-dlq", GROUP: "meagre-group", AUDIT: "meagre-audit"}
    footfall.topic = topic[EVENTS]
    creator = secured.user("maker", *rules_of("maker", least_rights("`topics create`", topic)))
    assert run(footfall, "topics create", creator).exit_code == 0
    needed = least_rights("projector", topic)
    meagre = secured.user("meagre", *rules_of("meagre", [Right("DESCRIBE", "topic", topic[EVENTS])]))
    meagre["KAFKA_GROUP_ID"] = topic[GROUP]
    projector = footfall.start("projector", ready=False, **meagre)
    for number, right in enumerate(needed):
        said = f"Kafka does not let this user {', '.join(map(str, needed[number:]))}"
        wait_until(lambda: told(projector) == (False, said), 60, f"{right} to be missed")  # noqa: B023
        secured.allow(*rules_of("meagre", [right]))
    wait_until(lambda: kafka_state(projector)[0], 60, "the projector to have all its rights")

    poor = footfall.start("command-side", ready=False, **secured.user("poor", *rules_of("poor", needed[:1])))
    assert poor.popen.wait(PATIENCE) == 1
    assert f"needs Write on topic {topic[EVENTS]}" in poor.log_text()


@pytest.mark.parametrize(
    ("command", "part"),
    [("topics create", "`topics create`"), ("replay", "`replay`, `rebuild`"), ("status", "`status`")],
)
def test_a_command_without_its_rights_says_which_it_lacks(
    secured: SecuredBroker, footfall: Footfall, command: str, part: str
) -> None:
    nobody = secured.user("nobody")
    found = run(footfall, command, nobody, footfall.servers.projector_url if command == "status" else "")
    assert found.exit_code in (1, 2), found.output
    assert any(str(right) in " ".join(found.output.split()) for right in least_rights(part, NAMES)), found.output


def test_the_page_lists_exactly_these_rights() -> None:
    page = (ROOT / "docs" / "transport.md").read_text()
    for part, rights in LEAST.items():
        (row,) = re.findall(rf"^\| {re.escape(part.replace('`', ''))} \| (.*) \|$", page, re.MULTILINE)
        assert len(row.split("; ")) == len(rights)
        for right in rights:
            words = f"{right.operation} on {right.resource} `{right.name}`" + (", prefixed" if right.prefixed else "")
            assert words in row, (part, words)
