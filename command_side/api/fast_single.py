"""`POST /events/generate` without a task, for a request that is whole when it is received.

What it answers is what the route on ASGI answers (`single.py`): both carry the same submission.
"""

from functools import partial

from command_side.api.responses import answer_to
from command_side.policies.command_heads import JSON, CommandHead
from command_side.submission import Commands, Result, Submission
from web.fast_handler import BufferedRequest


class FastCommands:
    """The fast handler of single commands."""

    def __init__(self, commands: Commands) -> None:
        self._submit = commands.submit

    def handle(self, request: BufferedRequest) -> None:
        """See `web.fast_handler.FastHandler`."""
        key = request.head.fact(CommandHead).idempotency_key
        begun = self._submit(request.body, key, request.request_id, partial(respond, request))
        if isinstance(begun, Submission):
            request.on_disconnect(begun.abandon)
        else:
            respond(request, begun)


def respond(request: BufferedRequest, result: Result) -> None:
    """Answers with what became of the command."""
    answer = answer_to(result)
    request.answer(answer.status, answer.body, JSON, answer.lines)
