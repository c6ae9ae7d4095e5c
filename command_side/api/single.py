"""`POST /events/generate`, straight on ASGI.

A typed Litestar handler decodes lax and costs more than Kafka does (docs/decisions/0013), so this one reads the raw
body into one strict decoder and splices the encoded event into the answer.
"""

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from command_side.admission import Admission, OverloadedError
from command_side.api.request import JSON, ClientGoneError, RefusedError, read_body, read_head, while_wanted
from command_side.api.responses import KEY_CONFLICT, answer_failure, answer_unrecorded, refuse
from command_side.idempotency import KeyConflict
from command_side.publishing.event_log import Acknowledged, AcknowledgedSomewhere, Submitted
from command_side.settings import CommandSettings
from command_side.submission import Commands
from contracts.validation.rules import Problems
from telemetry.metrics import COMMANDS_REJECTED
from web import envelope
from web.asgi import Receive, Scope, Send, respond
from web.middleware import REQUEST_ID_KEY

GENERATE = "/events/generate"


def generate_route(commands: Commands, admission: Admission, settings: CommandSettings) -> ASGIRouteHandler:
    """The route that records one activity."""
    max_bytes, body_timeout = settings.max_body_bytes, settings.body_timeout_ms / 1000

    @asgi(GENERATE, copy_scope=False)
    async def generate(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head = read_head(scope, max_bytes)
            size = admission.enter(head.length, max_bytes)
        except (RefusedError, OverloadedError) as error:
            await answer_failure(scope, send, error)
            return
        try:
            body = await read_body(receive, max_bytes, body_timeout)
            work = commands.handle(body, scope[REQUEST_ID_KEY], head.idempotency_key)
            # What has a key is wanted by its repeats.
            result = await (while_wanted(scope, work) if head.idempotency_key is None else work)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - this route passes by the framework and its last resort
            await answer_failure(scope, send, error)
        else:
            await answer(send, result)
        finally:
            admission.leave(size)

    return generate


async def answer(send: Send, result: Submitted | Problems | KeyConflict) -> None:
    """201 with the event, where to find it and its position in the log; or why it is not one."""
    match result:
        case Problems():
            COMMANDS_REJECTED.labels(status=400).inc()
            await respond(send, 400, envelope.invalid(result.sentences), JSON)
        case KeyConflict():
            await refuse(send, 422, KEY_CONFLICT)
        case Submitted():
            await answer_submitted(send, result)


async def answer_submitted(send: Send, submitted: Submitted) -> None:
    """What became of a command's record."""
    record, outcome = submitted.record, submitted.outcome
    location = (b"location", b"/events/" + record.event_id)
    match outcome:
        case Acknowledged():
            token = (b"footfall-position", b"%d-%d" % (outcome.partition, outcome.offset))
            await respond(send, 201, envelope.accepted(record.value), JSON, location, token)
        case AcknowledgedSomewhere():
            await respond(send, 201, envelope.accepted(record.value), JSON, location)
        case _:
            await answer_unrecorded(send, outcome)
