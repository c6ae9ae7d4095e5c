"""Shares: of what a process can do at once, one principal may hold a part, so that one cannot hold all.

Who holds its share is refused with 429 while others are still served. An open door knows only one principal, anonymous,
which stands for everybody: it has no share.
"""

from telemetry.metrics import REQUESTS_LIMITED
from web.policies.decisions import ADMIT, Admit, Decision, Refuse
from web.policies.principal import ANONYMOUS, Principal
from web.policies.request_head import RequestHead

RETRY_AFTER = (b"retry-after", b"1")  # seconds


class Share:
    """The places that each principal holds of a bounded number."""

    def __init__(self, what: str, places: int, percent: int) -> None:
        """`what`: the places, in the plural, for the sentence of a refusal; `percent`: of them, one may hold."""
        self.places = places
        self.most = max(1, places * percent // 100)
        self._held: dict[str, int] = {}  # by subject; only who holds something is there
        self.refusal = Refuse(
            429,
            f"Too many {what} at once: {self.most} are the share of one client. Try again when one has ended.",
            (RETRY_AFTER,),
        )

    def take(self, principal: Principal, amount: int = 1) -> bool:
        """Takes places, to be given back; False: the principal holds its share already.

        Who holds none takes any amount, so that a small share refuses nobody for ever.
        """
        subject = principal.subject
        if subject == ANONYMOUS:
            return True
        held = self._held.get(subject, 0)
        if held and held + amount > self.most:
            REQUESTS_LIMITED.labels(by="share").inc()
            return False
        self._held[subject] = held + amount
        return True

    def give_back(self, principal: Principal, amount: int = 1) -> None:
        """What `take` took."""
        subject = principal.subject
        if subject == ANONYMOUS:
            return
        held = self._held[subject] - amount
        if held:
            self._held[subject] = held
        else:
            del self._held[subject]

    def __len__(self) -> int:
        """How many principals hold a place."""
        return len(self._held)


class RequestShares:
    """The policy: requests in flight, each of which holds a connection and what it needs of the process."""

    def __init__(self, commands: Share, others: Share) -> None:
        self._commands, self._others = commands, others
        self._admit_command, self._admit_other = Admit(release=self._end_command), Admit(release=self._end_other)

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`. Needs the fact `Principal`."""
        principal: Principal = head.facts[Principal]
        if principal.subject == ANONYMOUS:
            return ADMIT
        if head.method == "POST":
            return self._admit_command if self._commands.take(principal) else self._commands.refusal
        return self._admit_other if self._others.take(principal) else self._others.refusal

    def _end_command(self, head: RequestHead) -> None:
        self._commands.give_back(head.facts[Principal])

    def _end_other(self, head: RequestHead) -> None:
        self._others.give_back(head.facts[Principal])
