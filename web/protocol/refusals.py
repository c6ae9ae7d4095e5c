"""What a connection answers itself to what never becomes a request: no HTTP, too large, too slow, too many.

There is no request to pass the policies of the process, but whoever sends it is not to have it for nothing. So the
policies that need no more than the connection are asked: what they add to an answer is added, and what they count
counts. Whoever has used up its limit so is told that instead.
"""

from collections.abc import Callable, Sequence

import uuid_utils

from telemetry.metrics import HTTP_REFUSED
from web.fast_handler import encode_headers
from web.policies.decisions import Refuse, RequestPolicy
from web.policies.passage import Passage, refusal_body
from web.policies.request_head import RequestHead
from web.protocol.whole_responses import whole_answer

Refusal = tuple[int, str]  # status and sentence
Client = tuple[str, int] | None
AnswerTo = Callable[[Refusal, Client, str], bytes]  # with the scheme of the connection

MALFORMED = (400, "The request is not valid HTTP/1.1.")
TOO_SLOW = (408, "The request's head took too long to arrive.")
CROWDED = (503, "Too many connections are open. Nothing was recorded; try again shortly.")
PLAIN_TO_TLS = (400, "This port speaks TLS: ask by https.")
CLOSE = (b"connection", b"close")
NO_METHOD = ""  # of the head that those policies see


class Refusals:
    """The answers of the connections of one process."""

    def __init__(self, policies: Sequence[RequestPolicy] = ()) -> None:
        """`policies`: those that need no more than the client's address; they ask for no I/O."""
        self._policies = policies

    def __call__(self, refusal: Refusal, client: Client, scheme: str) -> bytes:
        """See `AnswerTo`: a whole response that closes its connection."""
        head = RequestHead(NO_METHOD, "", b"", b"", [], client, scheme)
        passage = Passage(head, self._policies)
        decision = passage.proceed()
        passage.end()
        found = decision if isinstance(decision, Refuse) else Refuse(*refusal)
        HTTP_REFUSED.labels(status=found.status).inc()
        lines = encode_headers((CLOSE, *found.headers, *head.answer_headers))
        return whole_answer(found.status, refusal_body(found), b"application/json", lines, str(uuid_utils.uuid7()))


refused = Refusals()
