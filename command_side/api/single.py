"""`POST /events/generate`, straight on ASGI.

A typed Litestar handler decodes lax and costs more than Kafka does (docs/decisions/0013), so this one reads the raw
body into one strict decoder and splices the encoded event into the answer.
"""

from litestar.handlers import ASGIRouteHandler

from command_side.api.asgi_route import command_route
from command_side.api.request import result_of
from command_side.api.responses import Answer, answer_to
from command_side.policies.command_heads import CommandHead
from command_side.settings import CommandSettings
from command_side.submission import Commands, OnResult, Result, Submission
from telemetry.traces.request_trace import RequestTrace
from web.asgi import Scope
from web.middleware import REQUEST_ID_KEY
from web.policies.principal import Principal
from web.policies.request_head import RequestHead
from web.tenants.position_tokens import PositionTokens

GENERATE = "/events/generate"


def generate_route(commands: Commands, settings: CommandSettings, positions: PositionTokens) -> ASGIRouteHandler:
    """The route that records one activity."""

    async def answer(scope: Scope, head: RequestHead, body: bytes) -> Answer:
        principal, key = head.fact(Principal), head.fact(CommandHead).idempotency_key
        request_id, trace = scope[REQUEST_ID_KEY], head.facts.get(RequestTrace)

        def submit(on_result: OnResult) -> Result | Submission:
            return commands.submit(principal, body, key, request_id, on_result, trace)

        return answer_to(await result_of(scope, submit), principal.tenant_id, positions)

    return command_route(GENERATE, settings, answer)
