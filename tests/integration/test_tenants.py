"""Tenants whose ids are all the same see nothing of each other, whatever they ask (docs/tenants.md).

`FOOTFALL_LONG=1` sends 100,000 requests instead of 800.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from contracts.event import UserEvent
from contracts.versions import encode_event
from operations.reporters import grant
from read_model.tables.reporting import VIEWS
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import dlq, dlq_told
from tests.processes import Process, run_to_end
from tests.producing import produce, sql, start_projector, wait_until_processed
from tests.tenant_world import MARKS, NOON, PRODUCTS, TENANTS, TYPES, USERS, Tenant, a_tenant, event_id, records
from web.tenants.position_tokens import PositionTokens

COUNT = 240  # numbers, of which each tenant has two of three
REQUESTS = 100_000 if os.environ.get("FOOTFALL_LONG") == "1" else 800
MOST_COMMANDS = 40
PASSWORD = "not-a-secret-here"
POSITION_SECRET = "a secret of these tests"
PLAIN_POSITION = re.compile(r"\b\d{1,6}-\d{1,18}\b")


@dataclass
class World:
    """The tenants, and the front that they all ask."""

    footfall: Footfall
    front: Process
    tenants: dict[str, Tenant]

    def others(self, mine: Tenant) -> list[Tenant]:
        """All tenants but one."""
        return [tenant for tenant in self.tenants.values() if tenant is not mine]


@pytest.fixture(scope="module")
def world(new_footfall: Callable[..., Footfall]) -> Iterator[World]:
    footfall = new_footfall(partitions=3)
    tenants = {name: a_tenant(name, COUNT) for name in TENANTS}
    places = produce(footfall, records(list(tenants.values())))
    assert len(places) == sum(len(tenant.events) + len(tenant.poison) for tenant in tenants.values())
    start_projector(footfall)
    wait_until_processed(footfall, len(places))
    front = footfall.start("front", module="tests.drivers.believing", POSITION_SECRET=POSITION_SECRET)
    yield World(footfall, front, tenants)
    footfall.close()


@pytest.fixture
def client(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.front.url) as found:
        yield found


class Asking:
    """One tenant's random requests; each answer is compared with what the model knows."""

    def __init__(self, world: World, client: httpx.Client, chance: random.Random) -> None:
        self._world, self._client, self._chance = world, client, chance
        self.kinds: Counter[str] = Counter()
        self.requests = 0
        self._questions = (
            *[self.page] * 4,
            *[self.event] * 3,
            *[self.user] * 2,
            self.status,
            self.letter,
            self.feed,
            self.export,
            self.sessions,
            self.products,
            self.hours,
            self.foreign_cursor,
            self.foreign_position,
            self.foreign_tag,
            self.stream,
            self.sql,
            self.command,
        )
        self._reporters = {name: reporter_url(world, mine, bound_to(name)) for name, mine in world.tenants.items()}

    def ask(self, mine: Tenant) -> None:
        """One request of any kind."""
        question = self._chance.choice(self._questions)
        self.kinds[question.__name__] += 1
        question(mine)

    def get(self, mine: Tenant, path: str, told: dict[str, str] | None = None, /, **params: Any) -> httpx.Response:
        """Asks as a tenant, with further headers; no answer may have a byte of another."""
        self.requests += 1
        answer = self._client.get(path, params=params or None, headers={**mine.headers, **(told or {})})
        found = answer.content + str(answer.headers).encode()
        assert mine.knows(found), f"{mine.tenant_id} was told of another tenant: {path} {params} {found[:500]!r}"
        if mine.tenant_id != "default":
            assert not PLAIN_POSITION.search(answer.headers.get("footfall-reached", ""))
        return answer

    def some(self, mine: Tenant) -> UserEvent:
        return self._chance.choice(mine.events)

    def other(self, mine: Tenant) -> Tenant:
        return self._chance.choice(self._world.others(mine))

    def page(self, mine: Tenant) -> None:
        chance, wanted = self._chance, mine.events
        params: dict[str, Any] = {}
        if chance.randrange(2):
            params["userId"] = user = chance.choice(USERS)
            wanted = [event for event in wanted if event.user_id == user]
        if chance.randrange(2):
            product = chance.choice((*PRODUCTS, *(f"p-{mark}" for mark in MARKS.values())))
            if f"p-{MARKS[mine.tenant_id]}" == product or product in PRODUCTS:
                params["productId"] = product
                views = [event for event in wanted if event.event_type == "PRODUCT_VIEW"]
                wanted = [event for event in views if event.payload["productId"] == product]
        if not chance.randrange(3):
            params["eventType"] = kind = chance.choice(TYPES)
            wanted = [event for event in wanted if event.event_type == kind]
        if chance.randrange(2):
            params["order"] = "desc"
            wanted = wanted[::-1]
        params["limit"] = str(chance.choice((1, 3, 50, 1_000)))
        found: list[Any] = []
        for _ in range(4):
            answer = self.get(mine, "/events/processed", **params)
            found += answer.json()
            if "next" not in answer.links:
                assert found == mine.json_of(wanted)
                return
            query = parse_qs(urlsplit(answer.links["next"]["url"]).query)
            params["cursor"] = query["cursor"][0]
            mine.cursors = [*mine.cursors[-50:], ("/events/processed", answer.links["next"]["url"])]
        assert found == mine.json_of(wanted[: len(found)])

    def event(self, mine: Tenant) -> None:
        wanted = event_id(self._chance.randrange(COUNT + 5))
        answer = self.get(mine, f"/events/{wanted}")
        known = [event for event in mine.events if event.event_id == wanted]
        assert answer.status_code == (200 if known else 404)
        if known:
            assert answer.json() == mine.json_of(known)[0]
            mine.tags = [*mine.tags[-50:], (f"/events/{wanted}", answer.headers["etag"])]

    def user(self, mine: Tenant) -> None:
        user = self._chance.choice(USERS)
        events = mine.of_user(user)
        activity = self.get(mine, f"/users/{quote(user, safe='')}/activity")
        assert activity.status_code == (200 if events else 404)
        if events:
            told, counts = activity.json(), Counter(event.event_type for event in events)
            assert (told["logins"], told["logouts"], told["productViews"]) == tuple(
                counts[kind] for kind in ("LOGIN", "LOGOUT", "PRODUCT_VIEW")
            )
        answer = self.get(mine, f"/users/{quote(user, safe='')}/events", limit=1_000)
        assert answer.json() == mine.json_of(events)

    def sessions(self, mine: Tenant) -> None:
        user = self._chance.choice(USERS)
        logins = {str(event.event_id) for event in mine.of_user(user) if event.event_type == "LOGIN"}
        answer = self.get(mine, f"/users/{quote(user, safe='')}/sessions", limit=self._chance.choice((1, 200)))
        assert {session["sessionId"] for session in answer.json()} <= logins
        if "next" in answer.links:
            mine.cursors = [*mine.cursors[-50:], ("/users", answer.links["next"]["url"])]

    def products(self, mine: Tenant) -> None:
        span = {"from": NOON.isoformat(), "to": (NOON + timedelta(days=1)).isoformat()}
        assert self.get(mine, "/products/top", **span).json()["products"] == mine.views()

    def hours(self, mine: Tenant) -> None:
        span = {"from": NOON.isoformat(), "to": (NOON + timedelta(days=1)).isoformat()}
        told = self.get(mine, "/activity/hourly", **span).json()["hours"]
        assert sum(hour["events"] for hour in told) == len(mine.events)
        assert Counter(mine.hours().values()) == Counter(hour["events"] for hour in told)

    def status(self, mine: Tenant) -> None:
        wanted = event_id(self._chance.randrange(COUNT))
        told = self.get(mine, f"/events/{wanted}/status").json()
        has = any(event.event_id == wanted for event in mine.events)
        assert told["status"] == ("projected" if has else "unknown")
        if has and mine.tenant_id != "default":
            assert len(told["position"]) == 59
        if has:
            mine.positions = [*mine.positions[-50:], told["position"]]

    def letter(self, mine: Tenant) -> None:
        """A record that was set aside: the reason says words of its value, to its tenant alone."""
        other = self._chance.choice(list(self._world.tenants.values()))
        number = self._chance.randrange(3)
        [(_, raw)] = other.poison[number].headers
        told = self.get(mine, f"/events/{raw.decode()}/status").json()
        assert told["status"] == "parked"  # each tenant has set aside an event of this id
        assert MARKS[mine.tenant_id] in told["reason"]

    def feed(self, mine: Tenant) -> None:
        since, limit, found = "beginning", self._chance.choice((40, 100, 1_000)), []
        for _ in range(self._chance.choice((1, 3, 50))):
            answer = self.get(mine, "/events/feed", since=since, limit=limit)
            found += [event["eventId"] for event in answer.json()]
            since = answer.headers["footfall-cursor"]
            mine.cursors = [*mine.cursors[-50:], ("/events/feed", f"/events/feed?since={since}")]
            if "next" not in answer.links:
                assert Counter(found) == Counter(str(event.event_id) for event in mine.events)
                return
        assert Counter(found) <= Counter(str(event.event_id) for event in mine.events)

    def export(self, mine: Tenant) -> None:
        kind = self._chance.choice(("ndjson", "csv", "json", "arrow", "parquet"))
        answer = self.get(mine, "/events/processed", format=kind)
        assert answer.status_code == 200
        if kind == "ndjson":
            assert [json.loads(line) for line in answer.text.split("\n") if line] == mine.json_of(mine.events)
        elif kind == "csv":
            assert answer.text.count("\r\n") == len(mine.events) + 1

    def stream(self, mine: Tenant) -> None:
        """The live stream, from the beginning, of one user."""
        user = self._chance.choice(USERS)
        wanted = mine.json_of(mine.of_user(user))
        self.requests += 1
        told = seen_on_stream(self._world, mine, len(wanted), since="beginning", userId=user)
        assert mine.knows(told), f"{mine.tenant_id} was told of another tenant by a stream"
        found = [json.loads(line[6:]) for line in told.decode().split("\n") if line.startswith("data: ")][1:]
        assert sorted(found, key=id_of) == sorted(wanted, key=id_of)

    def sql(self, mine: Tenant) -> None:
        """A view, as the tenant's reporter reads it."""
        view = self._chance.choice(sorted(VIEWS))
        self.requests += 1
        told = asyncio.run(rows_of(self._reporters[mine.tenant_id], view))
        assert told
        assert mine.knows(repr(told).encode()), f"{mine.tenant_id} was told of another tenant by {view}"

    def command(self, mine: Tenant) -> None:
        """What an operator asks for one tenant on the command line, which costs as much as hundreds of requests."""
        if self.kinds["command"] > MOST_COMMANDS:
            return
        self.requests += 1
        user, tenant = self._chance.choice(USERS), ("--tenant", mine.tenant_id)
        told = privacy(self._world.footfall, "export", user, *tenant)
        assert mine.knows(told.encode()), f"{mine.tenant_id} was told of another tenant by an export of {user}"
        found = [each["event"] for line in told.splitlines() if (each := json.loads(line))["kind"] == "event"]
        assert sorted(found, key=id_of) == sorted(mine.json_of(mine.of_user(user)), key=id_of)
        letters = dlq_told(self._world.footfall, "list", *tenant, "--json")
        assert mine.knows(letters.encode()), f"{mine.tenant_id} was told of another tenant's dead letters"
        assert len(json.loads(letters)["letters"]) == len(mine.poison)

    def foreign_cursor(self, mine: Tenant) -> None:
        other = self.other(mine)
        if not other.cursors:
            return
        _, url = self._chance.choice(other.cursors)
        answer = self.get(mine, url)
        assert answer.status_code == 400, f"{mine.tenant_id} used a cursor of {other.tenant_id}: {url}"
        assert "cursor" in answer.json()["errors"][0]
        if url.startswith("/events/feed"):
            since = parse_qs(urlsplit(url).query)["since"][0]
            answer = self.get(mine, "/events/stream", {"last-event-id": since})
            assert answer.status_code == 400

    def foreign_position(self, mine: Tenant) -> None:
        other = self.other(mine)
        if not other.positions:
            return
        position = self._chance.choice(other.positions)
        event = self.some(mine)
        answer = self.get(mine, f"/events/{event.event_id}", position=position)
        assert answer.status_code == 400
        headers = {"footfall-position": position}
        assert self.get(mine, f"/events/{event.event_id}/status", headers).status_code == 400

    def foreign_tag(self, mine: Tenant) -> None:
        other = self.other(mine)
        if not other.tags:
            return
        path, tag = self._chance.choice(other.tags)
        answer = self.get(mine, path, {"if-none-match": tag})
        assert answer.status_code in (200, 404)


def test_no_answer_has_a_byte_of_another_tenant(world: World, client: httpx.Client) -> None:
    chance = random.Random(2026)
    asking = Asking(world, client, chance)
    while asking.requests < REQUESTS:
        asking.ask(world.tenants[chance.choice(TENANTS)])
    assert len(asking.kinds) == 16, asking.kinds


def seen_on_stream(world: World, mine: Tenant, count: int, **parameters: str) -> bytes:
    """The bytes of a stream until it has told so many events."""
    told = b""
    with httpx.stream("GET", f"{world.front.url}/events/stream", params=parameters, headers=mine.headers) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            told += piece
            if told.count(b"\ndata: ") > count and told.endswith(b"\n\n"):  # the first is the stream's beginning
                return told
    raise AssertionError(f"the stream ended after {told[-200:]!r}")


def test_a_stream_tells_only_its_tenants_events(world: World) -> None:
    for mine in world.tenants.values():
        told = seen_on_stream(world, mine, len(mine.events), since="beginning")
        assert mine.knows(told)
        found = [json.loads(line[6:]) for line in told.decode().split("\n") if line.startswith("data: ")][1:]
        assert Counter(event["eventId"] for event in found) == Counter(str(e.event_id) for e in mine.events)
        user = mine.events[0].user_id
        assert mine.knows(seen_on_stream(world, mine, len(mine.of_user(user)), since="beginning", userId=user))


def test_streams_of_several_tenants_are_told_what_is_new_at_the_same_time(world: World, client: httpx.Client) -> None:
    """The one reader behind all streams: each command is told to streams of its own tenant alone."""
    with ThreadPoolExecutor(4) as threads:
        told = [threads.submit(seen_on_stream, world, mine, 10, userId="live") for mine in world.tenants.values()]
        while not all(stream.done() for stream in told):
            for mine in world.tenants.values():
                body = {"userId": "live", "eventType": "LOGIN", "payload": {"mark": MARKS[mine.tenant_id]}}
                answer = client.post("/events/generate", json=body, headers=mine.headers)
                assert answer.status_code == 201
        for mine, stream in zip(world.tenants.values(), told, strict=True):
            assert mine.knows(stream.result())
            assert MARKS[mine.tenant_id].encode() in stream.result()


def place(tenant_id: str, position: str) -> tuple[int, int]:
    """The partition and the offset that the text of a position names to its tenant."""
    found = PositionTokens(POSITION_SECRET).read(tenant_id, position)
    assert found is not None
    return found


def test_no_text_says_whether_another_tenant_has_written(client: httpx.Client, world: World) -> None:
    """Offsets count all tenants' events. If equal offsets had equal texts, a changed text would be another's event."""
    moment = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for mine in world.others(world.tenants["default"]):
        ahead = PositionTokens(POSITION_SECRET).text(mine.tenant_id, 0, 10**9)

        def ask(path: str, told: str, /, mine: Tenant = mine, **asked: Any) -> str:
            answer = client.get(path, params=asked, headers={**mine.headers, "prefer": "wait=0"})
            return answer.headers[told]

        texts = [
            *(ask("/events/feed", "footfall-cursor", since=since) for since in ("now", moment) * 3),
            *(ask("/users/ann/activity", "footfall-reached", position=ahead) for _ in range(3)),
            *(first_id(world, mine, since) for since in ("now", moment) * 3),
        ]
        assert len({*texts}) == len(texts) == 15
        assert {len(text) for text in texts} == {59, len(texts[0])}, "and no length says anything"


def first_id(world: World, mine: Tenant, since: str) -> str:
    """The id that a stream begins with."""
    found = re.search(rb"id: (.*)", seen_on_stream(world, mine, 0, since=since))
    assert found is not None
    return found[1].decode()


def test_equal_keys_of_two_tenants_are_two_events(client: httpx.Client, world: World) -> None:
    """Both ways of a POST: chunked bodies take the one on ASGI."""
    found, spaces = {}, [*TENANTS, "acme/browser"]
    for space in spaces:
        headers = {"test-tenant": space, "idempotency-key": "the-same", "content-type": "application/json"}
        body = json.dumps({"userId": "keys", "eventType": "LOGIN", "payload": {"mark": space}}).encode()
        whole = client.post("/events/generate", content=body, headers=headers)
        chunked = client.post("/events/generate", content=iter([body[:5], body[5:]]), headers=headers)
        batch = client.post(
            "/events/generate/batch",
            content=json.dumps([{**json.loads(body), "idempotencyKey": "the-same"}]),
            headers={"test-tenant": space, "content-type": "application/json"},
        )
        assert [answer.status_code for answer in (whole, chunked, batch)] == [201, 201, 201], batch.text
        assert whole.json()["event"] == chunked.json()["event"] == batch.json()["results"][0]["event"]
        tenant_id = space.partition("/")[0]
        positions = {place(tenant_id, answer.headers["footfall-position"]) for answer in (whole, chunked)}
        assert positions == {place(tenant_id, batch.json()["results"][0]["position"])}
        assert whole.json()["event"].get("tenantId", "default") == tenant_id
        found[space] = whole.json()["event"]["eventId"]
    assert len(set(found.values())) == len(spaces)
    for tenant in ("acme", "bolt"):
        other = client.get(f"/events/{found['default']}", headers={"test-tenant": tenant})
        assert other.status_code == 404


def test_a_write_is_read_at_once_by_its_tenant_and_by_nobody_else(client: httpx.Client, world: World) -> None:
    for mine in world.tenants.values():
        body = {"userId": "fresh", "eventType": "LOGIN", "payload": {"mark": MARKS[mine.tenant_id]}}
        written = client.post("/events/generate", json=body, headers=mine.headers)
        position, path = written.headers["footfall-position"], written.headers["location"]
        assert (PLAIN_POSITION.fullmatch(position) is None) == (mine.tenant_id != "default")
        asked = {**mine.headers, "footfall-position": position}
        assert client.get(path, headers=asked).status_code == 200
        told = client.get(f"{path}/status", headers=asked).json()
        assert told["status"] == "projected"
        assert place(mine.tenant_id, told["position"]) == place(mine.tenant_id, position)
        for other in world.others(mine):
            foreign = client.get(path, headers={**other.headers, "footfall-position": position})
            assert foreign.status_code == (400 if other.tenant_id != "default" or mine.tenant_id != "default" else 404)
            assert "osition" in foreign.json()["errors"][0]
            assert client.get(path, headers=other.headers).status_code == 404


def test_a_record_set_aside_at_a_named_position_is_told_to_its_tenant_alone(world: World, client: httpx.Client) -> None:
    """The default tenant's positions are plain, so it can name one of another tenant's record: and learns nothing."""
    letters = sql(world.footfall.servers, "SELECT * FROM read.dead_letters ORDER BY tenant_id, event_id")
    assert Counter(letter["tenant_id"] for letter in letters) == Counter(dict.fromkeys(TENANTS, 3))
    mine = world.tenants["default"]
    event = mine.events[0].event_id
    for letter in letters:
        position = f"{letter['kafka_partition']}-{letter['kafka_offset']}"
        answer = client.get(f"/events/{event}", params={"position": position}, headers=mine.headers)
        assert answer.status_code == (409 if letter["tenant_id"] == "default" else 200)
        told = client.get(f"/events/{letter['event_id']}/status?position={position}", headers=mine.headers)
        assert told.json()["status"] == ("parked" if letter["tenant_id"] == "default" else "unknown")
        assert mine.knows(answer.content)
        assert mine.knows(told.content)


def id_of(event: dict[str, Any]) -> str:
    return str(event["eventId"])


def bound_to(tenant_id: str) -> str | None:
    """The tenant that a reporter is granted; None: the default one."""
    return None if tenant_id == "default" else tenant_id


async def rows_of(url: str, view: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(f"SELECT * FROM {view}")
    finally:
        await connection.close()


async def told_in_sql(url: str) -> dict[str, list[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        return {view: await connection.fetch(f"SELECT * FROM {view}") for view in VIEWS}
    finally:
        await connection.close()


def reporter_url(world: World, mine: Tenant, bound: str | None) -> str:
    """A reporter of the tenant, made by the operator."""
    name = f"reporter_of_{mine.tenant_id}"
    asyncio.run(grant(world.footfall.servers.admin_url, name, PASSWORD, tenant_id=bound))
    parts = urlsplit(world.footfall.servers.admin_url)
    return urlunsplit(parts._replace(netloc=f"{name}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"))


def test_a_reporter_sees_one_tenants_rows_in_every_view(world: World) -> None:
    for mine in world.tenants.values():
        url = reporter_url(world, mine, bound_to(mine.tenant_id))
        told = asyncio.run(told_in_sql(url))
        assert told.keys() == VIEWS.keys()
        assert all(told.values()), "a view without rows proves nothing"
        assert mine.knows(repr(told).encode())
        old = [row for row in told["events"] if row["occurred_at"] < NOON + timedelta(days=2)]
        assert {row["event_id"] for row in old} == {event.event_id for event in mine.events}
        ranked = [(row["product_id"], row["views"]) for row in told["product_ranking"]]
        assert Counter(dict(ranked)) == Counter({found["productId"]: found["views"] for found in mine.views()})
        shown = subprocess.run(
            [
                sys.executable,
                "-m",
                "footfall",
                "sql",
                "--csv",
                "-c",
                "SELECT * FROM events",
                "-c",
                "SELECT * FROM users",
            ],
            env={**os.environ, "REPORTING_DATABASE_URL": url, "ENVIRONMENT": "test"},
            capture_output=True,
            check=True,
        )
        assert MARKS[mine.tenant_id].encode() in shown.stdout
        assert mine.knows(shown.stdout + shown.stderr)


def test_a_reporter_without_a_tenant_sees_nothing_and_cannot_become_another(world: World) -> None:
    mine = world.tenants["bolt"]
    url = reporter_url(world, mine, None)  # keeps the tenant that it was given
    owner = world.footfall.servers.admin_url
    assert any(asyncio.run(told_in_sql(url)).values())

    async def refused(statement: str) -> None:
        connection = await asyncpg.connect(url)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        finally:
            await connection.close()

    for statement in (
        "SET SESSION AUTHORIZATION reporter_of_acme",
        "SET ROLE reporter_of_acme",
        "SELECT * FROM ops.reporter_tenants",
        "SELECT * FROM read.processed_events",
    ):
        asyncio.run(refused(statement))
    asyncio.run(_execute(owner, "DELETE FROM ops.reporter_tenants WHERE reporter = 'reporter_of_bolt'"))
    assert not any(asyncio.run(told_in_sql(url)).values())


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_an_operator_lists_dead_letters_of_one_tenant(world: World) -> None:
    role = {"DATABASE_URL": world.footfall.servers.projector_url}
    shown = run_to_end("dlq", "list", "--tenant", "acme", "--json", environment=role)
    assert shown.returncode == 0, shown.stderr
    letters = json.loads(shown.stdout)["letters"]
    assert {letter["user_id"] for letter in letters} == {f"lost-{COUNT + n}" for n in range(3)}
    assert world.tenants["acme"].knows(shown.stdout.encode())


def test_a_late_event_is_told_to_readers_of_its_tenant_alone(world: World, client: httpx.Client) -> None:
    """A redriven event becomes visible below everybody's cursor; only its tenant's feed has it."""

    def told_since(mine: Tenant, cursor: str) -> tuple[list[Any], str]:
        answer = client.get("/events/feed", params={"since": cursor}, headers=mine.headers)
        assert mine.knows(answer.content)
        assert "next" not in answer.links
        return answer.json(), answer.headers["footfall-cursor"]

    cursors = {name: told_since(mine, "now")[1] for name, mine in world.tenants.items()}
    before = dict(cursors)
    for number, (name, mine) in enumerate(world.tenants.items()):
        late = UserEvent(event_id(COUNT), f"lost-{COUNT}", "LOGIN", NOON, {"mark": MARKS[name]}, name)
        asked = f"SELECT * FROM read.dead_letters WHERE event_id = '{late.event_id}' AND tenant_id = '{name}'"
        [letter] = sql(world.footfall.servers, asked)
        place = f"kafka_partition = {letter['kafka_partition']} AND kafka_offset = {letter['kafka_offset']}"
        value = encode_event(late).hex()
        sql(world.footfall.servers, f"UPDATE read_g1.dead_letters SET record_value = '\\x{value}' WHERE {place}")
        dlq(world.footfall, "redrive", "--tenant", name, "--user", late.user_id)
        for other, reader in world.tenants.items():
            told, cursors[other] = told_since(reader, cursors[other])
            assert told == (mine.json_of([late]) if other == name else []), f"{other} after {number + 1} redrives"
    for other in ("acme", "bolt"):  # what is late of others takes no place of a page
        first = f"/events/feed?limit=1&since={before[other]}"
        answer = client.get(first, headers=world.tenants[other].headers)
        assert [event["payload"]["mark"] for event in answer.json()] == [MARKS[other]]
