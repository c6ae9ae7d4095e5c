"""One request's way through the policies of its process (docs/decisions/0033).

The fast path begins it when a request is whole, ASGI otherwise. A request that leaves the fast path takes its passage
along, so no policy is asked twice.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from telemetry.logs import get_logger
from web import envelope
from web.access import template_of
from web.policies.decisions import ADMIT, Admit, Answer, Decision, NeedsIO, Refuse, Release, RequestPolicy
from web.policies.request_head import RequestHead

PASSAGE_KEY = "footfall.passage"  # in the ASGI scope of a request that has left the fast path
HEAD_KEY = "footfall.head"  # in the ASGI scope of every request that was admitted: its RequestHead

FAILED = Refuse(500, envelope.INTERNAL_ERROR)


class Passage:
    """Where one request stands between the policies. Whoever makes it must call `end`."""

    __slots__ = ("_ahead", "_held_up", "_releases", "head")

    def __init__(self, head: RequestHead, policies: Iterable[RequestPolicy]) -> None:
        self.head = head
        self._ahead: Iterator[RequestPolicy] = iter(policies)
        self._held_up: Answer | Refuse | NeedsIO | None = None
        self._releases: tuple[Release, ...] = ()  # the last one first

    def proceed(self) -> Decision:
        """Asks the policies that were not asked yet, without waiting.

        Returns ADMIT after the last one, or the first decision that is another. A policy that raises refuses with 500.
        """
        head = self.head
        try:
            for policy in self._ahead:
                decision = policy(head)
                if decision is ADMIT:
                    continue
                if type(decision) is not Admit:
                    self._held_up = checked(decision)
                    return self._held_up
                if decision.fact is not None:
                    head.facts[type(decision.fact)] = decision.fact
                if decision.release is not None:
                    self._releases = (decision.release, *self._releases) if self._releases else (decision.release,)
                if decision.query is not None:
                    head.query = decision.query
                if decision.headers:
                    head.answer_headers += decision.headers
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody admitted the request
            self._held_up = self._failed(error)
            return self._held_up
        return ADMIT

    async def completed(self) -> Admit | Answer | Refuse:
        """As `proceed`, but awaits the policies that need I/O."""
        decision = self._held_up or self.proceed()
        while isinstance(decision, NeedsIO):
            try:
                answer = checked_answer(await decision.ask())
            except Exception as error:  # noqa: BLE001 - as in `proceed`
                return self._failed(error)
            self._ahead = chain([always(answer)], self._ahead)  # in the place of its policy
            decision = self.proceed()
        return decision

    def end(self) -> None:
        """The request has ended: gives back what its policies hold for it. Does nothing the second time.

        A release that raises, which it must not, is logged: the others give back theirs, and the answer is sent.
        """
        releases, self._releases = self._releases, ()
        for release in releases:
            try:
                release(self.head)
            except Exception as error:  # noqa: BLE001 - a place that is never given back is lost for ever
                get_logger("web").error("policy_release_failed", path=template_of(self.head.path), exc_info=error)

    def _failed(self, error: Exception) -> Refuse:
        get_logger("web").error("policy_failed", path=template_of(self.head.path), exc_info=error)
        return FAILED


def always(decision: Decision) -> RequestPolicy:
    """A policy that has decided already."""
    return lambda _: decision


def checked(decision: Decision) -> Answer | Refuse | NeedsIO:
    """Raises TypeError for what is no decision: a policy that forgot to return one admits nobody."""
    if not isinstance(decision, Answer | Refuse | NeedsIO):
        raise TypeError(f"a request policy returned {decision!r}")
    return decision


def checked_answer(answer: Admit | Answer | Refuse) -> Admit | Answer | Refuse:
    """As `checked`, after I/O."""
    if not isinstance(answer, Admit | Answer | Refuse):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a request policy returned {answer!r}")
    return answer


def refusal_body(refusal: Refuse) -> bytes:
    """The envelope of a refusal."""
    return envelope.invalid(list(refusal.problems)) if refusal.problems else envelope.failed(refusal.error)
