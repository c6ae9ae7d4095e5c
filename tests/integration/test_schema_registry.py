"""The topic in a schema registry: records that Confluent's clients read, and readers here that take both formats.

Against a registry in this process; and against a real Apicurio, which needs a distribution: APICURIO_HOME names one,
FOOTFALL_LONG=1 fetches it (160 MB).
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from pydantic import ValidationError

from brokers.registry.errors import RegistryAwayError, RegistryRefusedError
from brokers.registry.registration import registered, registry_of
from brokers.registry.settings import WireSettings
from command_side.topic_format import TopicFormat
from contracts.wire.frames import frame_for
from contracts.wire.topic_schema import topic_schema
from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.schema_registry import Registry, apicurio, apicurio_home, registry
from tests.drivers.sealed import key_store_of
from tests.patience import PATIENCE, patient
from tests.processes import Process, wait_until
from tests.producing import an_event, produce, record_of, sql, start_projector
from tests.topic_reader import records_of

COMMAND = {"userId": "user-1", "eventType": "PRODUCT_VIEW", "payload": {"productId": "p-1"}}


@pytest.fixture
def holds() -> Iterator[Registry]:
    with registry() as running:
        yield running


def register(url: str, topic: str = "t", schema: str | None = None, **settings: Any) -> int:
    asked = registry_of(WireSettings(schema_registry_url=url, **settings))
    return asyncio.run(registered(asked, topic, schema or topic_schema()))


def stored(footfall: Footfall) -> int:
    return int(sql(footfall.servers, "SELECT count(*) FROM read_g1.processed_events")[0][0])


def post(side: Process, user: str = "user-1") -> bytes:
    """Posts a command; returns the event's bytes as the answer has them."""
    answer = httpx.post(f"{side.url}/events/generate", json={**COMMAND, "userId": user})
    assert answer.status_code == 201, answer.text
    return answer.content.partition(b'"event":')[2].rpartition(b',"errors"')[0]


def framed_by(url: str) -> dict[str, str]:
    return {"KAFKA_WIRE_FORMAT": "confluent-json", "KAFKA_CLOUDEVENTS": "true", "SCHEMA_REGISTRY_URL": url}


def read_by_confluents_client(url: str, topic: str, values: list[bytes]) -> list[Any]:
    with SchemaRegistryClient({"url": url}) as client:
        read = JSONDeserializer(None, schema_registry_client=client)  # pyright: ignore[reportCallIssue]
        return [read(value, SerializationContext(topic, MessageField.VALUE)) for value in values]


def test_framed_records_are_read_by_confluents_client_and_by_everyone_here(footfall: Footfall, holds: Registry) -> None:
    framed = framed_by(holds.url)
    front, projector = footfall.start("front", ready=True, **framed), start_projector(footfall)
    plain = record_of(an_event())
    produce(footfall, [plain])
    events = [post(front), post(front, "user-2")]
    lines = b"\n".join([json.dumps({**COMMAND, "userId": "user-2"}).encode()] * 3)
    batch = httpx.post(
        f"{front.url}/events/generate/batch", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert batch.is_success, batch.text
    holds.away = True  # the id is known
    events.append(post(front))
    wait_until(lambda: stored(footfall) == 7, PATIENCE, "the rows")
    holds.away = False

    first, *others = sorted(records_of(footfall.servers.kafka, footfall.topic), key=lambda one: one.value[:1] == b"\0")
    assert first.value == plain.value
    assert {record.value[:5] for record in others} == {frame_for(7)}
    assert set(events) <= {record.value[5:] for record in others}
    found = read_by_confluents_client(holds.url, footfall.topic, [record.value for record in others])
    assert [one["eventId"] for one in found] == [dict(record.headers)["ce_id"].decode() for record in others]
    replayed = CliRunner().invoke(
        cli, ["replay", "--format", "json"], env={"ENVIRONMENT": "test", **footfall.environment()}
    )
    assert len(replayed.stdout.splitlines()) == 7, replayed.output

    assert httpx.delete(f"{front.url}/users/user-1").status_code == 202
    wait_until(lambda: stored(footfall) == 4, PATIENCE, "the erasure")
    privacy(footfall, "erase", "--yes", "user-2", keys=framed)
    assert stored(footfall) == 0
    markers = [record for record in records_of(footfall.servers.kafka, footfall.topic) if "recordKind" in str(record)]
    assert {(record.value[:5], dict(record.headers)["ce_type"]) for record in markers} == {(frame_for(7), b"erasure")}
    assert sql(footfall.servers, "SELECT count(*) FROM read_g1.dead_letters")[0][0] == 0
    assert "batch_failed" not in projector.log_text()


def test_the_sealed_log_is_framed_and_opened(footfall: Footfall, holds: Registry) -> None:
    keys = key_store_of(footfall).environment()
    front = footfall.start("front", ready=True, **keys, **framed_by(holds.url))
    start_projector(footfall, **keys)
    for user in ("user-1", "user-1", "user-2"):
        post(front, user)
    wait_until(lambda: stored(footfall) == 3, PATIENCE, "the rows")
    records = records_of(footfall.servers.kafka, footfall.topic)
    assert {record.value[:5] for record in records} == {frame_for(7)}
    assert not [record for record in records if b"user-1" in str(record).encode()]
    found = read_by_confluents_client(holds.url, footfall.topic, [record.value for record in records])
    assert {one["version"] for one in found} == {"3.0"}
    assert httpx.delete(f"{front.url}/users/user-1").status_code == 202
    wait_until(lambda: stored(footfall) == 1, PATIENCE, "the erasure")


def test_a_start_without_the_registry_says_so_and_takes_no_command(footfall: Footfall, holds: Registry) -> None:
    holds.away = True
    settings = {**framed_by(holds.url), "STARTUP_TIMEOUT_MS": "300"}
    side = footfall.start("command-side", ready=False, **settings)
    assert side.popen.wait(PATIENCE) == 1
    assert "schema registry" in side.log_text()
    assert "503: it is away" in side.log_text()
    assert records_of(footfall.servers.kafka, footfall.topic) == []


def test_a_schema_that_is_there_is_only_looked_up(holds: Registry) -> None:
    assert register(holds.url) == 7
    holds.asked.clear()
    assert register(holds.url) == 7
    assert holds.asked == ["GET /config/t-value", "POST /subjects/t-value", "GET /schemas/ids/7"]


@pytest.mark.parametrize("level", ["BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"])
def test_a_stronger_level_stays(holds: Registry, level: str) -> None:
    holds.level = level
    register(holds.url)
    assert holds.levels == {}
    holds.levels["u-value"] = level
    register(holds.url, "u")
    assert holds.levels == {"u-value": level}


@pytest.mark.parametrize("level", ["NONE", "FORWARD", "FORWARD_TRANSITIVE"])
def test_a_weaker_level_that_somebody_has_set_is_refused(holds: Registry, level: str) -> None:
    holds.levels["t-value"] = level
    with pytest.raises(RegistryRefusedError, match=f"is {level}, and Footfall needs BACKWARD"):
        register(holds.url)
    assert (holds.levels, holds.schemas) == ({"t-value": level}, {})


def test_an_incompatible_schema_is_not_registered(holds: Registry) -> None:
    register(holds.url, schema="{}")
    holds.is_compatible = False
    with pytest.raises(RegistryRefusedError, match="not compatible with the newest of subject t-value"):
        register(holds.url)
    assert list(holds.schemas.values()) == ["{}"]


def test_an_id_that_stands_for_another_schema_is_never_used(holds: Registry) -> None:
    register(holds.url)
    answer = holds.answer

    def lying(method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return (200, {"schema": "{}"}) if path.startswith("/schemas") else answer(method, path, body)

    holds.answer = lying  # type: ignore[method-assign]
    with pytest.raises(RegistryRefusedError, match="gives id 7 to another schema"):
        register(holds.url)


def test_a_login_is_sent_and_its_refusal_quotes_no_password(holds: Registry) -> None:
    holds.login = f"Basic {base64.b64encode(b'app:secret').decode()}"
    assert register(holds.url, schema_registry_username="app", schema_registry_password="secret") == 7
    with pytest.raises(RegistryRefusedError, match="SCHEMA_REGISTRY_PASSWORD") as refused:
        register(holds.url, schema_registry_username="app", schema_registry_password="wrong-one")
    assert "wrong-one" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"kafka_wire_format": "confluent-json"}, "SCHEMA_REGISTRY_URL is not set"),
        ({"schema_registry_url": "registry:8081"}, "must be http:// or https://"),
        ({"schema_registry_url": "https://app:secret@registry"}, "holds a password"),
        ({"schema_registry_url": "http://registry", "schema_registry_username": "app"}, "in the clear"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as refused:
        WireSettings(**settings)
    assert "app:secret" not in refused.value.errors(include_input=False)[0]["msg"]


@pytest.fixture
def looked_at(holds: Registry, monkeypatch: pytest.MonkeyPatch) -> TopicFormat:
    """The format of a process that looks into the registry all the time."""
    monkeypatch.setattr("command_side.topic_format.LOOK_AGAIN", 0.02)
    settings = WireSettings(schema_registry_url=holds.url, kafka_wire_format="confluent-json")
    return TopicFormat(settings, "t", startup_timeout=0)


async def told_by(topic: TopicFormat, what: str) -> None:
    """Waits until health says so; "" is nothing at all."""
    while not (what in (said := (await topic.state()).detail) and bool(what) == bool(said)):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        ("401", "SCHEMA_REGISTRY_PASSWORD"),
        ("404", "cannot be set to BACKWARD: 404"),
        ("429", "answered 429"),
        ("302", "does not speak as a schema registry does: 302"),
        ("page", "does not speak as a schema registry does: 200"),
        ("cut", "cannot be used"),
        ("trickle", "no answer in time"),
    ],
)
async def test_a_process_goes_on_with_its_id_whatever_the_registry_answers(
    holds: Registry, looked_at: TopicFormat, monkeypatch: pytest.MonkeyPatch, fate: str, told: str
) -> None:
    monkeypatch.setattr("brokers.registry.client.WHOLE", 0.5)
    async with looked_at.known(), asyncio.timeout(PATIENCE):
        holds.fate = fate
        await told_by(looked_at, told)
        await told_by(looked_at, "go on with schema id 7")
        assert looked_at.wire.frame == frame_for(7)
        holds.fate = ""
        await told_by(looked_at, "")
        assert looked_at.wire.frame == frame_for(7)


async def test_a_registry_that_comes_back_as_another_is_told_until_the_process_ends(
    holds: Registry, looked_at: TopicFormat
) -> None:
    async with looked_at.known(), asyncio.timeout(PATIENCE):
        holds.schemas, holds.subjects, holds.next_id = {7: "{}"}, {"other-value": [7]}, 21  # what we had is another's
        await told_by(looked_at, "has given the schema id 21, which was 7")
        assert looked_at.wire.frame == frame_for(21)
        holds.away = True
        await told_by(looked_at, "go on with schema id 21")
        await told_by(looked_at, "which was 7")


async def test_a_registry_that_goes_away_is_told_and_an_id_that_changed_is_taken(
    holds: Registry, looked_at: TopicFormat
) -> None:
    settings = WireSettings(schema_registry_url=holds.url, kafka_wire_format="confluent-json")
    topic = looked_at
    async with topic.known(), asyncio.timeout(PATIENCE):
        assert topic.wire.frame == frame_for(7)
        holds.away = True
        while "go on with schema id 7" not in (await topic.state()).detail:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)
        assert (await topic.state()).ok
        assert topic.wire.frame == frame_for(7)
        holds.subjects.clear()
        holds.next_id, holds.away = 21, False
        while topic.wire.frame != frame_for(21):  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)
    holds.away = True
    with pytest.raises(RegistryAwayError):
        async with TopicFormat(settings, "t", startup_timeout=0).known():
            pass


@pytest.fixture(scope="module")
def real_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = apicurio_home()
    if home is None:
        pytest.skip("no Apicurio: APICURIO_HOME names a distribution, FOOTFALL_LONG=1 fetches one")
    with apicurio(home, tmp_path_factory.mktemp("apicurio")) as url:
        yield url


@pytest.mark.timeout(patient(300))
def test_apicurio_takes_the_schema_and_what_extends_it_and_nothing_less(real_registry: str) -> None:
    first = register(real_registry)
    assert first == register(real_registry)
    level = httpx.get(f"{real_registry}/config/t-value").json()
    assert level == {"compatibilityLevel": "BACKWARD"}
    less, more = json.loads(topic_schema()), json.loads(topic_schema())
    less["oneOf"].pop()
    more["definitions"]["Later"] = {"type": "object", "required": ["later"], "properties": {"later": {"const": True}}}
    more["oneOf"].append({"$ref": "#/definitions/Later"})
    with pytest.raises(RegistryRefusedError, match="not compatible"):
        register(real_registry, schema=json.dumps(less))
    assert register(real_registry, schema=json.dumps(more)) != first
    assert register(real_registry) == first, "an older release goes on beside a newer one"


@pytest.mark.timeout(patient(300))
def test_confluents_client_reads_the_topic_by_apicurio(footfall: Footfall, real_registry: str) -> None:
    front = footfall.start("front", ready=True, **framed_by(real_registry))
    start_projector(footfall)
    events = [post(front, f"user-{n}") for n in range(20)]
    assert httpx.delete(f"{front.url}/users/user-1").status_code == 202
    wait_until(lambda: stored(footfall) == 19, PATIENCE, "the rows")
    values = [record.value for record in records_of(footfall.servers.kafka, footfall.topic)]
    found = read_by_confluents_client(real_registry, footfall.topic, values)
    assert [one for one in found if "eventId" in one] == [
        json.loads(value[5:]) for value in values if b"eventId" in value
    ]
    assert {value[5:] for value in values} >= set(events)
