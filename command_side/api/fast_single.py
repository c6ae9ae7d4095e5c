"""`POST /events/generate` without a task, for a request that is whole when it is received.

What it answers is what the route on ASGI answers (`single.py`): both carry the same submission.
"""

from functools import partial

from command_side.api.responses import answer_to
from command_side.policies.command_heads import JSON, CommandHead
from command_side.submission import Commands, Result, Submission
from web.fast_handler import BufferedRequest
from web.policies.principal import Principal
from web.tenants.position_tokens import PositionTokens


class FastCommands:
    """The fast handler of single commands."""

    def __init__(self, commands: Commands, positions: PositionTokens) -> None:
        self._submit = commands.submit
        self._positions = positions

    def handle(self, request: BufferedRequest) -> None:
        """See `web.fast_handler.FastHandler`."""
        facts = request.head.facts  # without the calls of `RequestHead.fact`
        principal: Principal = facts[Principal]
        key: bytes | None = facts[CommandHead].idempotency_key
        on_result = partial(self._respond, request)
        begun = self._submit(principal, request.body, key, request.request_id, on_result, request.trace)
        if isinstance(begun, Submission):
            request.on_disconnect(begun.abandon)
        else:
            self._respond(request, begun)

    def _respond(self, request: BufferedRequest, result: Result) -> None:
        answer = answer_to(result, request.head.facts[Principal].tenant_id, self._positions)
        request.answer(answer.status, answer.body, JSON, answer.lines)
