"""The answers that the routes share: one status and sentence for each way in which a command is not recorded."""

from typing import NamedTuple

import msgspec

from command_side.idempotency import KeyConflict
from command_side.policies.command_heads import CLOSE, JSON
from command_side.policies.requests_in_flight import RETRY_AFTER
from command_side.publishing.event_log import (
    Acknowledged,
    AcknowledgedSomewhere,
    Away,
    Busy,
    Failed,
    KeysAway,
    NotAcknowledged,
    Submitted,
    TooLarge,
    Unknown,
)
from command_side.submission import Result
from contracts.validation.rules import Problems
from telemetry.logs import get_logger
from telemetry.metrics import COMMANDS_REJECTED
from web import envelope
from web.access import template_of
from web.asgi import Scope, Send, respond
from web.fast_handler import decode_headers, encode_headers
from web.policies.decisions import RefusedError
from web.policies.principal import DEFAULT_TENANT
from web.tenants.position_tokens import PositionTokens

LOCATION = b"location: /events/%b\r\n"
LOCATION_AND_POSITION = LOCATION + b"footfall-position: %d-%d\r\n"
LOCATION_AND_SEALED_POSITION = LOCATION + b"footfall-position: %b\r\n"

NOT_PUBLISHED = "The event could not be published: Kafka did not take it. Nothing was recorded; try again."
TOO_LARGE = (
    "The event is larger than the topic takes in one record (its max.message.bytes). Nothing was recorded; a repeat "
    "would fare the same. Send a smaller payload."
)
OUTCOME_UNKNOWN = (
    "Kafka did not answer in time: whether the event was recorded is unknown. Repeat the request with the same "
    "Idempotency-Key; without one, a repeat may be a second event."
)
BUSY = "Too many events wait for Kafka. Nothing was recorded; try again shortly."
AWAY = "Kafka does not answer. Nothing was recorded; try again shortly."
KEYS_AWAY = "The key store does not answer, and the user is not known here. Nothing was recorded; try again shortly."
KEY_CONFLICT = (
    "The Idempotency-Key was used for another command. Nothing was recorded; use a new key for a new command."
)
BODY_TOO_SLOW = "The request body took too long to arrive."


class PublishAnswer(NamedTuple):
    """Status, sentence and headers of a command that the log did not acknowledge."""

    status: int
    error: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


PUBLISH_ANSWERS: dict[type[NotAcknowledged], PublishAnswer] = {
    Failed: PublishAnswer(500, NOT_PUBLISHED),
    TooLarge: PublishAnswer(413, TOO_LARGE),
    Unknown: PublishAnswer(503, OUTCOME_UNKNOWN, (RETRY_AFTER,)),
    Busy: PublishAnswer(503, BUSY, (RETRY_AFTER,)),
    Away: PublishAnswer(503, AWAY, (RETRY_AFTER,)),
    KeysAway: PublishAnswer(503, KEYS_AWAY, (RETRY_AFTER,)),
}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a command: JSON."""

    status: int
    body: bytes
    lines: bytes = b""  # further headers, each with its end of line


def answer_to(result: Result, tenant_id: str, positions: PositionTokens) -> Answer:
    """201 with the event, where to find it and its position in the log; or why there is none, which is counted."""
    if isinstance(result, Submitted):
        record, outcome = result.record, result.outcome
        if isinstance(outcome, Acknowledged):
            event_id = record.event_id
            if tenant_id == DEFAULT_TENANT:  # as `positions` writes it, with two calls less
                lines = LOCATION_AND_POSITION % (event_id, outcome.partition, outcome.offset)
            else:
                lines = where(event_id, outcome, tenant_id, positions)
            return Answer(201, envelope.accepted(record.value), lines)
        if isinstance(outcome, AcknowledgedSomewhere):
            return Answer(201, envelope.accepted(record.value), LOCATION % record.event_id)
        return answer_unrecorded(outcome)
    if isinstance(result, KeyConflict):
        COMMANDS_REJECTED.labels(status=422).inc()
        return Answer(422, envelope.failed(KEY_CONFLICT))
    return answer_invalid(result)


def where(event_id: bytes, at: Acknowledged, tenant_id: str, positions: PositionTokens) -> bytes:
    """The headers of a 201: where the event is to be found, and its position if the tenant gets one."""
    sealed = positions.text(tenant_id, at.partition, at.offset)
    return LOCATION % event_id if sealed is None else LOCATION_AND_SEALED_POSITION % (event_id, sealed.encode())


def answer_invalid(problems: Problems) -> Answer:
    """400 with every problem, which is counted."""
    COMMANDS_REJECTED.labels(status=400).inc()
    return Answer(400, envelope.invalid(problems.sentences))


def answer_unrecorded(outcome: NotAcknowledged) -> Answer:
    """The answer to a command, or a whole batch, that the log did not acknowledge."""
    status, text, headers = PUBLISH_ANSWERS[type(outcome)]
    return Answer(status, envelope.failed(text), encode_headers(headers))


async def send_answer(send: Send, answer: Answer) -> None:
    """Sends it on ASGI."""
    await respond(send, answer.status, answer.body, JSON, *decode_headers(answer.lines))


async def refuse(send: Send, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
    """Answers a request that cannot be taken as it is, and counts it."""
    COMMANDS_REJECTED.labels(status=status).inc()
    await respond(send, status, envelope.failed(error), JSON, *headers)


async def answer_failure(scope: Scope, send: Send, error: Exception) -> None:
    """Answers whatever a route raised; the unforeseen with 500 and nothing of its cause, which the log has."""
    if isinstance(error, RefusedError):
        await refuse(send, error.answer.status, error.answer.error, *error.answer.headers)
    elif isinstance(error, TimeoutError):
        await refuse(send, 408, BODY_TOO_SLOW, CLOSE)
    else:
        get_logger("command_side").error("unforeseen_error", path=template_of(scope["path"]), exc_info=error)
        await respond(send, 500, envelope.failed(envelope.INTERNAL_ERROR), JSON)
