"""The answers that the routes share: one status and sentence for each way in which a command is not recorded."""

from typing import NamedTuple

from command_side.admission import OverloadedError
from command_side.api.request import CLOSE, JSON, RefusedError
from command_side.publishing.event_log import Away, Busy, Failed, NotAcknowledged, TooLarge, Unknown
from telemetry.logs import get_logger
from telemetry.metrics import COMMANDS_REJECTED
from web import envelope
from web.asgi import Scope, Send, respond

RETRY_AFTER = (b"retry-after", b"1")  # seconds

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
OVERLOADED = "Too many requests are in flight. Nothing was recorded; try again shortly."
AWAY = "Kafka does not answer. Nothing was recorded; try again shortly."
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
}


async def refuse(send: Send, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
    """Answers a request that cannot be taken as it is, and counts it."""
    COMMANDS_REJECTED.labels(status=status).inc()
    await respond(send, status, envelope.failed(error), JSON, *headers)


async def answer_unrecorded(send: Send, outcome: NotAcknowledged) -> None:
    """Answers a command, or a whole batch, that the log did not acknowledge."""
    status, text, headers = PUBLISH_ANSWERS[type(outcome)]
    await respond(send, status, envelope.failed(text), JSON, *headers)


async def answer_failure(scope: Scope, send: Send, error: Exception) -> None:
    """Answers whatever a route raised; the unforeseen with 500 and nothing of its cause, which the log has."""
    if isinstance(error, RefusedError):
        await refuse(send, error.status, error.error, *error.headers)
    elif isinstance(error, OverloadedError):
        await refuse(send, 503, OVERLOADED, RETRY_AFTER)
    elif isinstance(error, TimeoutError):
        await refuse(send, 408, BODY_TOO_SLOW, CLOSE)
    else:
        get_logger("command_side").error("unforeseen_error", path=scope["path"], exc_info=error)
        await respond(send, 500, envelope.failed(envelope.INTERNAL_ERROR), JSON)
