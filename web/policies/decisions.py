"""What a request policy may decide: a closed type. Whatever is none of these refuses the request."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from web.policies.request_head import RequestHead

# Called once when a request has ended, with its head; must not raise.
Release = Callable[[RequestHead], None]


class Admit(msgspec.Struct, frozen=True, gc=False):
    """The request goes on to the next policy, and after the last one to its handler."""

    fact: object = None  # what the policy learned; `RequestHead.fact` gives it to later policies and to the handler
    query: bytes | None = None  # the query string without what was meant for the policy; None: as it is
    release: Release | None = None  # gives back what the policy holds for the request
    headers: tuple[tuple[bytes, bytes], ...] = ()  # of the answer, whatever it will be; names in lower case


class Refuse(msgspec.Struct, frozen=True):
    """The request is answered with this in the envelope, and nothing behind the policy hears of it."""

    status: int
    error: str  # one sentence
    headers: tuple[tuple[bytes, bytes], ...] = ()  # names in lower case
    problems: tuple[str, ...] = ()  # instead of `error`, a sentence for each problem


class RefusedError(Exception):
    """Raised where a request is read: it is answered with a refusal, of one sentence or one for each problem."""

    def __init__(
        self, status: int, error: str | None = None, *headers: tuple[bytes, bytes], errors: Sequence[str] | None = None
    ) -> None:
        super().__init__(error or errors)
        self.answer = Refuse(status, error or "", headers, tuple(errors or ()))


class Answer(msgspec.Struct, frozen=True):
    """The request is answered with this, which is no refusal and has no body; nothing behind the policy hears of it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()  # names in lower case


class NeedsIO(msgspec.Struct, frozen=True):
    """The policy has to wait for another server: the request takes the ASGI way, where `ask` is awaited once."""

    ask: Callable[[], "Awaitable[Admit | Answer | Refuse]"]


Decision = Admit | Answer | Refuse | NeedsIO

# Decides at once, from the head and the facts of the policies before it. It is called once for each request.
RequestPolicy = Callable[[RequestHead], Decision]

ADMIT = Admit()
