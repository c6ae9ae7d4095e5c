"""`POST /events/generate`, straight on ASGI.

A typed Litestar handler decodes lax and costs more than Kafka does (docs/decisions/0013), so this one reads the raw
body into one strict decoder and splices the encoded event into the answer.
"""

from functools import partial

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from command_side.api.request import ClientGoneError, read_body, result_of
from command_side.api.responses import answer_failure, answer_to, send_answer
from command_side.policies.command_heads import CommandHead
from command_side.settings import CommandSettings
from command_side.submission import Commands
from web.asgi import Receive, Scope, Send
from web.middleware import REQUEST_ID_KEY
from web.policies.passage import HEAD_KEY

GENERATE = "/events/generate"


def generate_route(commands: Commands, settings: CommandSettings) -> ASGIRouteHandler:
    """The route that records one activity."""
    body_timeout = settings.body_timeout_ms / 1000

    @asgi(GENERATE, copy_scope=False)
    async def generate(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head = scope[HEAD_KEY].fact(CommandHead)
            body = await read_body(receive, head.max_bytes, body_timeout)
            submit = partial(commands.submit, body, head.idempotency_key, scope[REQUEST_ID_KEY])
            answer = answer_to(await result_of(scope, submit))
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - this route passes by the framework and its last resort
            await answer_failure(scope, send, error)
        else:
            await send_answer(send, answer)

    return generate
