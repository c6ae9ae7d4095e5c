"""Commands, keys and the log together, in every order: what is answered is what became of the record.

A model-based test: hypothesis posts commands both ways and in batches, lets clients leave and tasks be cancelled, and
chooses what the log does, step by step. Whoever is told 201 must find the event in the log.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from command_side.api.batch import BATCH, batch_route
from command_side.api.fast_single import FastCommands
from command_side.api.responses import KEY_CONFLICT
from command_side.api.single import GENERATE, generate_route
from command_side.app import command_policies
from command_side.batch_submission import Batches
from command_side.idempotency import RecentKeys
from command_side.policies.requests_in_flight import RequestsInFlight
from command_side.publishing.event_log import ACKNOWLEDGED, FAILED, SOMEWHERE
from command_side.settings import CommandSettings
from command_side.submission import Commands
from tests.conformance.held_event_log import HeldEventLog
from tests.drivers.identity import ANYBODY, TENANT_HEADER, believed
from tests.shipped_types import RULES
from web.asgi import ON_DISCONNECT_KEY, Headers, Message
from web.health import only_probes
from web.middleware import Middleware
from web.policies.decisions import ADMIT
from web.policies.passage import Passage
from web.policies.request_head import RequestHead
from web.tenants.position_tokens import PositionTokens

Json = dict[str, Any]
NOTHING_RECORDED = "Nothing was recorded"
ROUNDS = 4  # after so many that are answered at once, nobody waits any more

SPACES = st.sampled_from(["default", "default", "acme", "acme/browser"])  # tenants, and a key space of one
KEYS = st.sampled_from(["k1", "k2", "k3"])
COMMANDS = st.sampled_from(["a", "a", "a", "b"])  # under one key: the same, or now and then another
ITEMS = st.lists(st.tuples(KEYS | st.none(), COMMANDS), min_size=1, max_size=5)


class Client:
    """One request: its commands' marks and keys, how it leaves, and what it was answered."""

    def __init__(self, sent: list[tuple[str, str | None]]) -> None:
        self.sent = sent
        self.task: asyncio.Task[None] | None = None
        self.leave: Callable[[], None] | None = None
        self.gone = False
        self.status = 0
        self.text = b""

    def answered(self, status: int, text: bytes) -> None:
        assert not self.status, "answered twice"
        self.status, self.text = status, text


class BufferedRequest:
    """A request as the server offers it to a fast handler."""

    def __init__(self, client: Client, passage: Passage, body: bytes) -> None:
        self.body, self.request_id, self.trace = body, "r", None
        self.head = passage.head
        self._client, self._passage = client, passage

    def on_disconnect(self, leave: Callable[[], None]) -> None:
        def gone() -> None:
            leave()
            self._passage.end()

        self._client.leave = gone

    def answer(self, status: int, body: bytes, content_type: bytes, lines: bytes = b"") -> None:
        self._passage.end()
        assert content_type == b"application/json"
        assert (b"location: /events/" in lines) == (status == 201)
        self._client.answered(status, body)


def headers_of(body: bytes, space: str, key: str | None) -> Headers:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((TENANT_HEADER, space.encode()))
    return headers if key is None else [*headers, (b"idempotency-key", key.encode())]


class Outcomes(RuleBasedStateMachine):
    """The command side without server and broker."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.time = lambda: 0.0  # type: ignore[method-assign]  # nothing depends on how fast we are
        self.log = HeldEventLog()
        keys = RecentKeys(max_bytes=10_000_000, window=3_600)
        config = CommandSettings(max_requests_in_flight=1_000, max_bytes_in_flight=100_000_000)
        commands = Commands(self.log, keys, RULES)
        positions = PositionTokens("a secret of these tests")
        self.fast = FastCommands(commands, positions)
        self.policies = [believed, *command_policies(config)]
        routes: dict[str, Any] = {
            GENERATE: generate_route(commands, config, positions).fn,
            BATCH: batch_route(Batches(self.log, keys, RULES), config, positions).fn,
        }
        self.app = Middleware(only_probes, "test", {}, routes, policies=self.policies)
        self.clients: list[Client] = []
        self.checked: set[int] = set()
        self.marks = 0
        self.asked: dict[str, set[str]] = {}  # of each key: the commands that were sent with it
        self.events: dict[str, bytes] = {}  # of each key: the event that was acknowledged
        self.doubts: Counter[str] = Counter()  # tries of a key of which nobody knew
        self.small_slices = patch("command_side.batch_items.SLICE_BYTES", 200)
        self.small_slices.start()

    # --- requests -------------------------------------------------------------------------------------------------

    def command(self, space: str, key: str | None, which: str) -> tuple[Json, str]:
        """A command and its mark: the same for a key's repeats in the same space of keys."""
        self.marks += 1
        self.asked.setdefault(f"{space}:{key}", set()).add(which)
        mark = f"{space}:{key}-{which}" if key else f"unkeyed-{self.marks}"
        return {"userId": "u", "eventType": "LOGIN", "payload": {"mark": mark}}, mark

    @rule(space=SPACES, key=KEYS | st.none(), which=COMMANDS, direct=st.booleans())
    def post(self, space: str, key: str | None, which: str, direct: bool) -> None:
        command, mark = self.command(space, key, which)
        client, body = Client([(mark, key and f"{space}:{key}")]), json.dumps(command).encode()
        self.clients.append(client)
        self.loop.call_soon(self.offer if direct else self.on_asgi, client, body, space, key)
        self.run()

    def offer(self, client: Client, body: bytes, space: str, key: str | None) -> None:
        head = RequestHead("POST", GENERATE, GENERATE.encode(), b"", headers_of(body, space, key), None, "http")
        passage = Passage(head, self.policies)
        assert passage.proceed() is ADMIT
        self.fast.handle(BufferedRequest(client, passage, body))

    def on_asgi(self, client: Client, body: bytes, space: str, key: str | None) -> None:
        self.start(client, GENERATE, headers_of(body, space, key), body)

    @rule(space=SPACES, items=ITEMS, atomic=st.booleans())
    def post_batch(self, space: str, items: list[tuple[str | None, str]], atomic: bool) -> None:
        commands, sent = [], []
        for key, which in items:
            command, mark = self.command(space, key, which)
            commands.append({**command, "idempotencyKey": key} if key else command)
            sent.append((mark, key and f"{space}:{key}"))
        client, body = Client(sent), json.dumps(commands).encode()
        self.clients.append(client)
        query = b"atomic=true" if atomic else b""
        self.loop.call_soon(self.start, client, BATCH, headers_of(body, space, None), body, query)
        self.run()

    def start(self, client: Client, path: str, headers: Headers, body: bytes, query: bytes = b"") -> None:
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                client.answered(status, message["body"])

        def on_disconnect(leave: Callable[[], None] | None) -> None:
            client.leave = leave

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": query,
            "headers": headers,
            ON_DISCONNECT_KEY: on_disconnect,
        }
        client.task = self.loop.create_task(self.app(scope, receive, send))

    def waiting(self) -> list[Client]:
        return [client for client in self.clients if not client.status and not client.gone]

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), cancelled=st.booleans())
    def leave(self, data: st.DataObject, cancelled: bool) -> None:
        """A client leaves; or its task is cancelled, as when the server ends."""
        client = data.draw(st.sampled_from(self.waiting()))
        client.gone = True
        if cancelled and client.task is not None:
            client.task.cancel()
        elif client.leave is not None:
            client.leave()
        self.run()

    # --- the log --------------------------------------------------------------------------------------------------

    @rule()
    def send(self) -> None:
        self.log.send()
        self.run()

    @precondition(lambda self: self.log.in_flight)
    @rule(outcome=st.sampled_from(["where", "somewhere", "failed"]))
    def answer(self, outcome: str) -> None:
        told = {"where": None, "somewhere": SOMEWHERE, "failed": FAILED}[outcome]
        self.log.answer(lands=outcome != "failed", outcome=told)
        self.run()

    @precondition(lambda self: self.log.in_flight)
    @rule(lands=st.booleans())
    def time_out(self, lands: bool) -> None:
        self.doubts.update(mark_of(held.record.value) for held in self.log.in_flight)
        self.log.time_out(lands=lands)
        self.run()

    @precondition(lambda self: self.log.waiting)
    @rule()
    def expire(self) -> None:
        self.log.expire()
        self.run()

    @rule(away=st.booleans())
    def go_away(self, away: bool) -> None:
        self.log.away = away

    # --- what must hold -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Lets everything happen that can."""
        self.loop.run_until_complete(turns())

    @invariant()
    def answers_are_true(self) -> None:
        landed = Counter(mark_of(record.value) for record in self.log.stored)
        values = {record.value for record in self.log.stored}
        for number, client in enumerate(self.clients):
            if client.status and number not in self.checked:
                self.checked.add(number)
                for (mark, key), result in zip(client.sent, results_of(client), strict=True):
                    self.check(mark, key, result, landed, values)

    def check(self, mark: str, key: str | None, result: Json, landed: Counter[str], values: set[bytes]) -> None:
        if result["status"] == 201:
            event = result["event"]
            assert event in values, f"{mark} was answered 201 and is not in the log"
            if key is not None:
                assert self.events.setdefault(key, event) == event, f"{key} was answered with two events"
        elif result["error"] == KEY_CONFLICT:
            assert len(self.asked[str(key)]) > 1, f"{key} conflicts with a key of another space"
        elif NOTHING_RECORDED in result["error"]:
            assert not landed[mark], f"{mark} is in the log; it was said that nothing was recorded"

    @invariant()
    def an_event_is_written_again_only_in_doubt(self) -> None:
        landed = Counter(mark_of(record.value) for record in self.log.stored)
        for mark, times in landed.items():
            left = sum(client.gone for client in self.clients)  # whose task is cancelled leaves a doubt, too
            assert times <= 1 + self.doubts[mark] + left, f"{mark} is in the log {times} times"

    def teardown(self) -> None:
        """The log answers everything: then everybody who stayed has an answer, and nothing is in flight."""
        try:
            self.loop.run_until_complete(self.answer_all())
            self.answers_are_true()
            assert not self.waiting(), "somebody waits for ever"
            [in_flight] = [policy for policy in self.policies if isinstance(policy, RequestsInFlight)]
            assert (in_flight.requests, in_flight.bytes) == (0, 0)
        finally:
            self.small_slices.stop()
            self.loop.close()

    async def answer_all(self) -> None:
        self.log.away = False
        for _ in range(ROUNDS):
            self.log.send()
            while self.log.in_flight:
                self.log.answer(lands=True)
            await turns()
        tasks = [client.task for client in self.clients if client.task is not None]
        assert all(task.done() for task in tasks), "a task never ends"
        await asyncio.gather(*tasks, return_exceptions=True)


async def turns() -> None:
    """So many turns of the loop as any chain of events here takes."""
    for _ in range(20):
        await asyncio.sleep(0)


def mark_of(value: bytes) -> str:
    mark: str = json.loads(value)["payload"]["mark"]
    return mark


def results_of(client: Client) -> list[Json]:
    """A result for each command, with its status, its error ("" for none) and its event as bytes."""
    body = json.loads(client.text)
    found = body["results"] if "results" in body else [{**body, "status": client.status}] * len(client.sent)
    for result in found:
        result["error"] = result["error"] or ""
        if result["status"] == 201:
            result["event"] = json.dumps(result["event"], separators=(",", ":")).encode()
    return list(found)


Outcomes.TestCase.settings = settings(
    max_examples=100, stateful_step_count=25, phases=(Phase.reuse, Phase.generate), report_multiple_bugs=False
)
TestOutcomes = Outcomes.TestCase


async def test_a_batch_that_waited_for_another_says_what_is_true_when_it_answers() -> None:
    log = HeldEventLog()
    keys = RecentKeys(max_bytes=1_000_000, window=60)
    batches = Batches(log, keys, RULES)

    def post(*names: str) -> "asyncio.Task[Any]":
        items = [{"userId": "u", "eventType": "LOGIN", "idempotencyKey": name} for name in names]
        return asyncio.ensure_future(
            batches.handle(ANYBODY, json.dumps(items).encode(), "r", lines=False, atomic=False)
        )

    leading = post("k1")
    await turns()
    log.away = True
    waiting = post("k1", "k2")  # k2 is refused, and nobody is told before k1 is known
    await turns()
    log.away = False
    repeating = post("k2")
    await turns()
    log.send()
    while log.in_flight:
        log.answer(lands=True)
    for answered in await asyncio.gather(leading, waiting, repeating):
        assert all(isinstance(result.outcome, ACKNOWLEDGED) for result in answered)
