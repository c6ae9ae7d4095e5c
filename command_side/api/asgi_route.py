"""What the ASGI routes of commands share: read the body, have it answered, and answer every failure."""

from collections.abc import Awaitable, Callable

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from command_side.api.request import ClientGoneError, read_body
from command_side.api.responses import Answer, answer_failure, send_answer
from command_side.policies.command_heads import CommandHead
from command_side.settings import CommandSettings
from web.asgi import Receive, Scope, Send
from web.policies.passage import HEAD_KEY
from web.policies.request_head import RequestHead

# Answers a body; raises ClientGoneError when its client disconnects first.
AnswerBody = Callable[[Scope, RequestHead, bytes], Awaitable[Answer]]


def command_route(path: str, settings: CommandSettings, answer_body: AnswerBody) -> ASGIRouteHandler:
    """The route at `path`, for requests that the policies have admitted."""
    body_timeout = settings.body_timeout_ms / 1000

    @asgi(path, copy_scope=False)
    async def command(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head: RequestHead = scope[HEAD_KEY]
            body = await read_body(receive, head.fact(CommandHead).max_bytes, body_timeout)
            answer = await answer_body(scope, head, body)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - this route passes by the framework and its last resort
            await answer_failure(scope, send, error)
        else:
            await send_answer(send, answer)

    return command
