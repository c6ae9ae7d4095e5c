"""Declares every exported metric: name, labels, unit and meaning. A test compares docs/metrics.md with this module."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from telemetry.http_metrics import HttpMetrics
from telemetry.refusals import RefusalTally

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # memory, CPU, open files, and since when it runs

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds

MESSAGES_PUBLISHED = Counter(
    "messages_published", "Events that Kafka acknowledged (acks=all) to this process.", registry=REGISTRY
)
PUBLISH_FAILURES = Counter(
    "publish_failures",
    "Events not acknowledged. outcome: failed (certainly not written), too_large (for the topic), unknown (may be "
    "written), refused (queue full), unavailable (the circuit is open).",
    ["outcome"],
    registry=REGISTRY,
)
CIRCUIT_STATE = Gauge(
    "kafka_circuit_state",
    "1 for the state of the circuit breaker in front of Kafka: closed, half-open or open; 0 for the other states.",
    ["state"],
    registry=REGISTRY,
)
COMMANDS_IN_FLIGHT = Gauge("commands_in_flight", "POST requests that are not answered yet.", registry=REGISTRY)
COMMAND_BYTES_IN_FLIGHT = Gauge(
    "command_bytes_in_flight", "Bytes of the bodies of the POST requests that are not answered yet.", registry=REGISTRY
)
COMMANDS_REJECTED = Counter(
    "commands_rejected",
    "Requests refused as invalid (4xx) or for overload (503), by HTTP status.",
    ["status"],
    registry=REGISTRY,
)
PUBLISH_SECONDS = Histogram(
    "publish_round_seconds",
    "Duration of one produce round, from its start to the last acknowledgement.",
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
HTTP_METRICS = HttpMetrics(LATENCY_BUCKETS)  # http_requests by side and status, http_request_seconds by side
REGISTRY.register(HTTP_METRICS)
HTTP_REFUSED = Counter(
    "http_requests_refused",
    "Requests ended before they were complete: no HTTP (400), too slow (408), target (414) or head (431) too large, "
    "one connection too many (503).",
    ["status"],
    registry=REGISTRY,
)
ACCESS_REFUSED = Counter(
    "access_refused",
    "Requests refused by identity or access. reason: no_credentials, unknown, malformed, expired, revoked, host, "
    "origin, scope (known, but not for this), not_ready (the process cannot check credentials yet).",
    ["reason"],
    registry=REGISTRY,
)
KEY_LAST_USE = Gauge(
    "key_last_use_seconds",
    "When each key was last used at this process, seconds since 1970. key: its id.",
    ["key"],
    registry=REGISTRY,
)
KEY_CHANGE_SECONDS = Histogram(
    "key_change_seconds",
    "From the writing of a change of a key, such as its revocation, until this process knows it.",
    registry=REGISTRY,
    buckets=(0.1, 0.5, 1.0, 2.0, 5.0, 30.0),
)

REFUSAL_TALLY = RefusalTally(ACCESS_REFUSED)  # for the audit log

PROCESSED_EVENTS = Gauge(
    "processed_events", "Events in the read model, as the checkpoints count them (query side).", registry=REGISTRY
)
KEPT_ANSWERS = Counter(
    "kept_answers",
    "Answers that CACHE_URL is asked for: `kept`, `joined` (one that was being computed), `computed`; and how often "
    "Valkey was `away`.",
    ["outcome"],
    registry=REGISTRY,
)
EVENTS_PROJECTED = Counter("events_projected", "Events this projector stored.", ["generation"], registry=REGISTRY)
DUPLICATES_SKIPPED = Counter(
    "duplicates_skipped",
    "Records of an event that was already stored, skipped by this projector.",
    ["generation"],
    registry=REGISTRY,
)
IDEMPOTENCY_CONFLICTS = Counter(
    "idempotency_conflicts",
    "Duplicates that differ from the stored event of their id: an idempotency key was used for two commands.",
    ["generation"],
    registry=REGISTRY,
)
DEAD_LETTERS_PARKED = Counter(
    "dead_letters_parked",
    "Records this projector parked. cause: poison, newer_version, behind (an earlier record of its key is parked).",
    ["cause", "generation"],
    registry=REGISTRY,
)
RECORDS_MISPLACED = Counter(
    "records_misplaced",
    "Records in another partition than their user's, among those that this projector read.",
    ["generation"],
    registry=REGISTRY,
)
BATCHES_COMMITTED = Counter(
    "batches_committed", "Transactions this projector committed.", ["generation"], registry=REGISTRY
)
BATCHES_FENCED = Counter(
    "batches_fenced",
    "Batches rolled back because another owner had moved the checkpoint.",
    ["generation"],
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "batch_commit_seconds",
    "Duration of one batch transaction: rows and checkpoints.",
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
PARTITIONS_OWNED = Gauge("partitions_owned", "Partitions this projector owns now.", ["generation"], registry=REGISTRY)
PARTITIONS_STOPPED = Gauge(
    "partitions_stopped",
    "Owned partitions that stopped with a named reason (see /health).",
    ["generation"],
    registry=REGISTRY,
)
PARTITION_STATES = Gauge(
    "partition_states",
    "Partitions of the active generation by the state that this projector sees, except those of other projectors.",
    ["generation", "state"],
    registry=REGISTRY,
)
REBUILD_PROGRESS = Gauge(
    "rebuild_progress",
    "Share of the log that a generation that is being built has read, 0 to 1, over all projectors.",
    ["generation"],
    registry=REGISTRY,
)
PARTITIONS_PROBED = Counter(
    "partitions_probed",
    "Tries of stopped partitions that the projector made by itself.",
    ["generation"],
    registry=REGISTRY,
)
PROJECTION_RETRIES = Counter(
    "projection_retries", "Batches rolled back after a transient failure and read again.", registry=REGISTRY
)
AUDIT_ANCHORED = Gauge(
    "audit_anchored_timestamp_seconds",
    "When this projector last anchored the audit log's head in Kafka, seconds since 1970; 0: it never did.",
    registry=REGISTRY,
)
STREAMS_OPEN = Gauge("streams_open", "Clients that follow the live feed of this query side now.", registry=REGISTRY)
STREAMS_DROPPED = Counter(
    "streams_dropped", "Clients of the live feed dropped because they took events too slowly.", registry=REGISTRY
)

TRACE_SPANS = Counter(
    "trace_spans",
    "Spans that left the queue of this process. outcome: exported, failed (the endpoint did not take them).",
    ["outcome"],
    registry=REGISTRY,
)
TOKENS_REFUSED = Counter(
    "tokens_refused",
    "Access tokens refused (401). reason: what was wrong with them, such as expired, signature, audience, key.",
    ["reason"],
    registry=REGISTRY,
)
TOKEN_KEY_FETCHES = Counter(
    "token_key_fetches",
    "Requests to the issuer for the keys of access tokens. outcome: fetched, failed.",
    ["outcome"],
    registry=REGISTRY,
)
REQUESTS_LIMITED = Counter(
    "requests_limited",
    "Requests refused with 429. by: address, subject or tenant (its rate), share (of what a process can do at once), "
    "quota (of the tenant's day).",
    ["by"],
    registry=REGISTRY,
)
TOKEN_KEY_AGE = Gauge(
    "token_key_age_seconds",
    "Seconds since the issuer gave the keys of access tokens; +Inf before it did, 0 in a process that takes no tokens.",
    registry=REGISTRY,
)

CERTIFICATE_END = Gauge(
    "certificate_end_timestamp_seconds",
    "When the certificate of this process ends, seconds since 1970; 0: it serves without TLS.",
    registry=REGISTRY,
)

for _outcome in ("failed", "too_large", "unknown", "refused", "unavailable"):  # seen to grow only if it was there
    PUBLISH_FAILURES.labels(outcome=_outcome)
COMMANDS_REJECTED.labels(status=503)
for _by in ("address", "subject", "tenant", "share", "quota"):
    REQUESTS_LIMITED.labels(by=_by)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """Returns the exposition and its content type: OpenMetrics if `accept`, the header, asks for it, else text."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type
