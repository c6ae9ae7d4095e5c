"""The command side's composition root: producer, log, routes, and the layers around them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from litestar import Litestar
from litestar.types import ControllerRouterHandler

from brokers.diagnosis import WhyAway, with_reason
from command_side.api.batch import BATCH, batch_route, read_batch_head
from command_side.api.documents import OPENAPI, document_routes
from command_side.api.erasure import erasure_router
from command_side.api.fast_single import FastCommands
from command_side.api.openapi.document import document
from command_side.api.single import GENERATE, generate_route
from command_side.batch_submission import Batches
from command_side.erasures import Erasures, Fences
from command_side.idempotency import RecentKeys
from command_side.policies.command_heads import CommandHeads, read_head
from command_side.policies.daily_quota import DailyQuota
from command_side.policies.requests_in_flight import RequestsInFlight
from command_side.publishing.counted_log import CountedLog, DayOfTenants
from command_side.publishing.event_log import EventLog
from command_side.publishing.kafka_event_log import KafkaEventLog
from command_side.publishing.kafka_producer import BROKERS_AWAY
from command_side.publishing.quick_codecs import use_quick_codecs
from command_side.publishing.sealed_log import SealedLog, Seals
from command_side.publishing.topic_watch import TopicWatch
from command_side.publishing.wire_log import WireLog
from command_side.refusal_notes import RefusalNotes
from command_side.settings import CommandSettings
from command_side.submission import Commands
from command_side.topic_format import TopicFormat
from contracts.types import Catalogue
from contracts.validation.commands import CommandRules
from telemetry.connections import once_there
from telemetry.health import DependencyState
from telemetry.metrics import REFUSAL_TALLY
from telemetry.undone import UNDONE
from web.asgi import App
from web.policies.decisions import RequestPolicy
from web.tenants.position_tokens import PositionTokens


class Sealing(NamedTuple):
    """What seals events, and fences users who are erased."""

    seals: Seals
    fences: Fences


ANSWER_TIMEOUT_MS = 8_000  # Kafka has not answered a request: its connection is replaced, and it is sent again


class CommandSide:
    """Everything of the command side that an application needs."""

    def __init__(self, settings: CommandSettings, catalogue: Catalogue, sealing: Sealing | None = None) -> None:
        """`sealing`: None: events are written as they are."""
        use_quick_codecs()
        self._sealing = sealing
        positions = PositionTokens(settings.position_secret.get_secret_value())
        self._startup_timeout = settings.startup_timeout_ms / 1000  # seconds
        self._log = KafkaEventLog(
            lambda: producer_of(settings, sealed=sealing is not None),
            settings.kafka_topic,
            timeout=settings.publish_timeout_ms / 1000,
            retries=settings.publish_retries,
            max_pending=settings.publish_max_pending,
        )
        self._client_options = settings.client_options
        self._why_away = WhyAway(settings.client_options)
        self._types = catalogue.words()
        self._refusals = RefusalNotes(settings.client_options(), settings.kafka_audit_topic, REFUSAL_TALLY, UNDONE)
        self._topic = TopicWatch(lambda: self._log.client, settings.kafka_topic, self._log.times_refused)
        keys = RecentKeys(max_bytes=settings.idempotency_memory_bytes, window=settings.idempotency_window_ms / 1000)
        rules = CommandRules(catalogue)
        stored: EventLog = self._log
        self._format = TopicFormat(settings, settings.kafka_topic, self._startup_timeout)
        if self._format.changes_records():
            stored = WireLog(stored, lambda: self._format.wire)
        erasures = Erasures(stored, None if sealing is None else sealing.fences)
        if sealing is not None:
            stored = SealedLog(stored, sealing.seals, settings.publish_max_pending)
        quota, log, public_log = quota_of(settings, stored)
        topic = settings.kafka_topic
        single, batches = Commands(log, keys, rules, public_log, topic), Batches(log, keys, rules, public_log, topic)
        commands = [generate_route(single, settings, positions), batch_route(batches, settings, positions)]
        self.policies = command_policies(settings, quota)
        # Past the router, which costs 10 us.
        self.direct_routes = {path: route.fn for route in commands for path in route.paths}
        self.raw_routes: dict[str, App] = {}
        self.fast_handlers = {GENERATE.encode(): FastCommands(single, positions).handle}
        self.route_handlers: list[ControllerRouterHandler] = [
            *commands,
            erasure_router(erasures, positions),
            *document_routes(catalogue),
        ]
        self.probes = {"kafka": self._kafka_state}
        if sealing is not None:
            self.probes["key store"] = sealing.seals.state
        if self._format.has_registry():
            self.probes["schema registry"] = self._format.state
        self.documents = {OPENAPI: partial(document, catalogue)}

    @asynccontextmanager
    async def lifespan(self, _app: Litestar) -> AsyncIterator[None]:
        """Connects to Kafka; publishes what is pending before it disconnects."""
        await once_there("Kafka", self._connect, BROKERS_AWAY, self._startup_timeout)
        await self._topic.at_start()
        try:
            async with (
                self._format.known(),
                self._refusals.running(),
                nullcontext() if self._sealing is None else self._sealing.seals.running(),
            ):
                yield
        finally:
            await self._log.close()

    async def _connect(self) -> None:
        await with_reason(self._client_options(), self._log.start)

    async def _kafka_state(self) -> DependencyState:
        state = self._log.circuit_state
        if state != "closed":
            detail = f"the circuit is {state}: Kafka does not answer"
            return DependencyState(ok=False, detail="; ".join(filter(None, (detail, await self._why_away.said()))))
        await self._log.connected()
        topic = await self._topic.state()
        return DependencyState(topic.ok, "; ".join(filter(None, (topic.detail, self._types))))


def quota_of(settings: CommandSettings, log: EventLog) -> tuple[list[RequestPolicy], EventLog, EventLog]:
    """The policy that holds tenants to their quota, and the logs that count for it; `log` where there is no quota.

    The second log is for what public keys record.
    """
    if not (settings.quota_events or settings.quota_bytes):
        return [], log, log
    day = DayOfTenants()
    percent = settings.public_keys_percent
    quota = DailyQuota(day, events=settings.quota_events, size=settings.quota_bytes, public_percent=percent)
    return [quota], CountedLog(log, day), CountedLog(log, day, public=True)


def command_policies(settings: CommandSettings, quota: Sequence[RequestPolicy] = ()) -> list[RequestPolicy]:
    """What every request passes, in this order."""
    heads = {
        GENERATE: partial(read_head, settings.max_body_bytes),
        BATCH: partial(read_batch_head, settings.batch_max_body_bytes),
    }
    in_flight = RequestsInFlight(max_requests=settings.max_requests_in_flight, max_bytes=settings.max_bytes_in_flight)
    return [CommandHeads(heads), *quota, in_flight]


def compression_of(settings: CommandSettings, *, sealed: bool) -> str | None:
    """The compression that the settings name. What is sealed looks random, and gzip spends long on that in vain."""
    named = settings.kafka_compression
    if sealed and "kafka_compression" not in settings.model_fields_set:
        named = "zstd"
    return None if named == "none" else named


def producer_of(settings: CommandSettings, *, sealed: bool = False) -> AIOKafkaProducer:
    """An idempotent producer with acks=all; see libraries' defaults in docs/decisions/0005."""
    return AIOKafkaProducer(
        **settings.client_options(),
        client_id="footfall-command-side",
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        compression_type=compression_of(settings, sealed=sealed),
        max_batch_size=262_144,
        max_request_size=1_048_576,
        request_timeout_ms=min(settings.publish_timeout_ms, ANSWER_TIMEOUT_MS),
    )
