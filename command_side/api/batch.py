"""`POST /events/generate/batch`: many commands in one request, each with its own result (docs/batches.md)."""

from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import parse_qsl

import msgspec
from litestar.handlers import ASGIRouteHandler

from command_side.api.asgi_route import command_route
from command_side.api.request import cancel_on_disconnect
from command_side.api.responses import KEY_CONFLICT, PUBLISH_ANSWERS, Answer, answer_invalid, answer_unrecorded
from command_side.batch_items import KEY_FIELD
from command_side.batch_submission import Batches, ItemResult
from command_side.idempotency import KeyConflict
from command_side.policies.command_heads import JSON, CommandHead, read_head
from command_side.policies.requests_in_flight import RETRY_AFTER
from command_side.publishing.event_log import (
    ACKNOWLEDGED,
    NOT_TAKEN,
    Acknowledged,
    Acknowledgement,
    NotTaken,
    Submitted,
)
from command_side.settings import CommandSettings
from contracts.validation.rules import Problems
from telemetry.metrics import COMMANDS_REJECTED
from telemetry.traces.request_trace import RequestTrace
from web import envelope
from web.asgi import Scope
from web.fast_handler import encode_headers
from web.middleware import REQUEST_ID_KEY
from web.policies.decisions import RefusedError
from web.policies.principal import Principal
from web.policies.request_head import RequestHead
from web.tenants.position_tokens import PositionTokens

BATCH = "/events/generate/batch"
NDJSON = b"application/x-ndjson"
MEDIA_TYPES = (JSON, NDJSON)

NOT_PUBLISHED = "Not published: the batch is atomic and another of its items was refused."
KEY_IS_THE_ITEMS = "A batch has no Idempotency-Key of its own; give each item its `idempotencyKey`."
BAD_QUERY = "The only query parameter is `atomic`: true or false."

# A position's text, from partition and offset; None: the tenant gets none.
PositionText = Callable[[int, int], str | None]

_encode = msgspec.json.Encoder().encode


def batch_route(batches: Batches, settings: CommandSettings, positions: PositionTokens) -> ASGIRouteHandler:
    """The route that records many activities."""

    async def answer(scope: Scope, head: RequestHead, body: bytes) -> Answer:
        principal, command = head.fact(Principal), head.fact(CommandHead)
        trace = head.facts.get(RequestTrace)
        lines = command.media_type == NDJSON
        work = batches.handle(principal, body, scope[REQUEST_ID_KEY], lines=lines, atomic=command.atomic, trace=trace)
        # A batch with a key goes on without its client: repeats may wait for it.
        results = await (work if KEY_FIELD in body else cancel_on_disconnect(scope, work))
        return answer_to_batch(results, partial(positions.text, principal.tenant_id))

    return command_route(BATCH, settings, answer)


def read_batch_head(max_bytes: int, head: RequestHead) -> CommandHead:
    """As `read_head`. `?atomic=true` is the only query; a key of its own has no meaning."""
    command = read_head(max_bytes, head, MEDIA_TYPES)
    if command.idempotency_key is not None:
        raise RefusedError(400, KEY_IS_THE_ITEMS)
    if not head.query:
        return command
    parameters = parse_qsl(head.query.decode("latin-1"), keep_blank_values=True)
    if parameters not in ([("atomic", "true")], [("atomic", "false")]):
        raise RefusedError(400, BAD_QUERY)
    return msgspec.structs.replace(command, atomic=parameters[0][1] == "true")


def answer_to_batch(results: Sequence[ItemResult] | Problems | NotTaken, position: PositionText) -> Answer:
    """The results in order, under the status that sums them up; 400 when the body as a whole is no batch; or 503."""
    if isinstance(results, NOT_TAKEN):
        return answer_unrecorded(results)
    if isinstance(results, Problems):
        return answer_invalid(results)
    statuses = []
    rendered_results = []
    for result in results:
        status, text = rendered(result, position)
        statuses.append(status)
        rendered_results.append(text)
    accepted, unknown = statuses.count(201), statuses.count(503)
    body = b'{"success":%b,"accepted":%d,"rejected":%d,"unknown":%d,"results":[%b]}' % (
        b"true" if accepted == len(results) else b"false",
        accepted,
        len(results) - accepted - unknown,
        unknown,
        b",".join(rendered_results),
    )
    status = overall(statuses)
    if status in (400, 422):
        COMMANDS_REJECTED.labels(status=status).inc()
    return Answer(status, body, encode_headers([RETRY_AFTER]) if status == 503 else b"")


def overall(statuses: Sequence[int]) -> int:
    """One status for all: 503 when any outcome is unknown; 201 or the common refusal when all agree; else 207."""
    found = set(statuses)
    if 503 in found:
        return 503
    refusals = found - {424}  # items of an atomic batch that nothing is wrong with
    if len(refusals) == 1 and 413 not in refusals:  # which would speak of the body
        return refusals.pop()
    return 207 if 201 in found else 400


def rendered(result: ItemResult, position: PositionText) -> tuple[int, bytes]:
    """Status and JSON of one result: the envelope's four keys, `status`, and `position` where it is known."""
    if isinstance(result, Submitted):
        outcome = result.outcome
        if isinstance(outcome, ACKNOWLEDGED):
            return 201, recorded(result.record.value, outcome, position)
        answered = PUBLISH_ANSWERS[type(outcome)]
        return answered.status, refused(answered.status, answered.error)
    if isinstance(result, Problems):
        return 400, b'{"status":400,' + envelope.invalid(result.sentences)[1:]
    if isinstance(result, KeyConflict):
        return 422, refused(422, KEY_CONFLICT)
    return 424, refused(424, NOT_PUBLISHED)


def recorded(event_json: bytes, where: Acknowledgement, position: PositionText) -> bytes:
    """The result of an item that was accepted."""
    text = position(where.partition, where.offset) if isinstance(where, Acknowledged) else None
    token = b"null" if text is None else b'"%b"' % text.encode()
    return b'{"status":201,"success":true,"event":%b,"errors":null,"error":null,"position":%b}' % (event_json, token)


def refused(status: int, error: str) -> bytes:
    """The result of an item that was not."""
    return b'{"status":%d,%b' % (status, envelope.failed(error)[1:])
