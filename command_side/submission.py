"""One command from its body to its result, without I/O of its own: validate, claim the key, publish, say what became.

Two drivers carry it: the fast path is called back with the result (`api/fast_single.py`), the route on ASGI awaits the
same call (`api/single.py`).
"""

from collections.abc import Callable

from command_side.idempotency import Follow, KeyConflict, Keyed, Lead, RecentKeys, Settled
from command_side.publishing.event_log import NOT_TAKEN, EventLog, Outcome, Submitted
from command_side.tracing import carry, note_submitted
from contracts.derived_ids import KeySpace
from contracts.event import ActivityCommand
from contracts.record import TOPIC, EventRecord, new_record
from contracts.validation.commands import CommandRules
from contracts.validation.rules import Problems
from telemetry.traces.request_trace import RequestTrace
from web.policies.principal import Principal

Result = Submitted | Problems | KeyConflict
OnResult = Callable[[Result], None]


class Submission:
    """A valid command on its way to its result."""

    __slots__ = ("_on_result", "_record")

    goes_on_without_client = True  # repeats with its key may wait for its record

    def __init__(self, record: EventRecord, on_result: OnResult) -> None:
        self._record = record
        self._on_result: OnResult | None = on_result  # None: called, or nobody waits any more

    def abandon(self) -> None:
        """Nobody waits for the result any more: `on_result` is not called."""
        self._on_result = None

    def settle(self, outcome: Outcome) -> None:
        """Calls `on_result` with what became of the record."""
        on_result, self._on_result = self._on_result, None
        if on_result is not None:
            on_result(Submitted(self._record, outcome))


class Publishing(Submission):
    """A command without a key: what was not sent when its client leaves never will be."""

    __slots__ = ("_pending",)

    goes_on_without_client = False

    def begin(self, log: EventLog) -> Result | Submission:
        """Gives the record to the log. Returns the result if the log does not take it."""
        pending = log.publish_nowait(self._record, self.settle)
        if isinstance(pending, NOT_TAKEN):
            return Submitted(self._record, pending)
        self._pending = pending
        return self

    def abandon(self) -> None:
        """See `Submission.abandon`."""
        self._on_result = None
        self._pending.withdraw()


class Leading(Submission):
    """A command that is the first with its key."""

    __slots__ = ("_lead",)

    def __init__(self, lead: Lead, on_result: OnResult) -> None:
        super().__init__(lead.record, on_result)
        self._lead = lead

    def begin(self, log: EventLog) -> Result | Submission:
        """Gives the record to the log. Returns the result if the log does not take it."""
        try:
            pending = log.publish_nowait(self._record, self._settle_key)
        except BaseException:
            self._lead.leave()
            raise
        if isinstance(pending, NOT_TAKEN):
            return Submitted(self._record, self._lead.settle(pending))
        return self

    def _settle_key(self, outcome: Outcome) -> None:
        self.settle(self._lead.settle(outcome))


def space_of(principal: Principal) -> KeySpace:
    """Where the principal's idempotency keys are unique."""
    return KeySpace(principal.tenant_id, principal.key_space)


class Commands:
    """Records activities in a log."""

    def __init__(
        self,
        log: EventLog,
        keys: RecentKeys,
        rules: CommandRules,
        public_log: EventLog | None = None,
        topic: str = TOPIC,
    ) -> None:
        """`public_log`: what counts what public keys record; None: `log` does. `topic`: of the log, for traces."""
        self._log = log
        self._public_log = public_log or log
        self._topic = topic
        self._keys = keys
        self._rules = rules

    def submit(
        self,
        principal: Principal,
        body: bytes,
        key: bytes | None,
        request_id: str,
        on_result: OnResult,
        trace: RequestTrace | None = None,
    ) -> Result | Submission:
        """Records one activity of the principal's tenant; with an idempotency key, every repeat is the same event.

        Returns the result if it is known at once; then `on_result` is never called. Otherwise returns the submission,
        which calls `on_result` once, unless it is abandoned before. If this raises, nothing is published. `trace`: the
        record carries it.
        """
        command = self._rules.validate(body)
        if not isinstance(command, ActivityCommand):  # a struct: to ask for the type that it has costs a tenth
            return command
        log = self._public_log if principal.key_space else self._log  # as `is_public`, without a call
        if trace is not None:
            return self._submit_traced(principal, command, key, request_id, on_result, trace)
        if key is None:
            return Publishing(new_record(command, request_id, principal.tenant_id), on_result).begin(log)
        keyed = self._keys.keyed(space_of(principal), key, command, request_id)
        return self._submit_keyed(keyed, on_result, log)

    def _submit_traced(
        self,
        principal: Principal,
        command: ActivityCommand,
        key: bytes | None,
        request_id: str,
        on_result: OnResult,
        trace: RequestTrace,
    ) -> Result | Submission:
        def noted(result: Result) -> None:
            self._note(trace, result)
            on_result(result)

        log = self._public_log if principal.is_public() else self._log
        if key is None:
            record = new_record(command, request_id, principal.tenant_id)
            carry(trace, [record])
            begun = Publishing(record, noted).begin(log)
        else:
            keyed = self._keys.keyed(space_of(principal), key, command, request_id)
            carry(trace, [keyed.record])
            begun = self._submit_keyed(keyed, noted, log)
        if not isinstance(begun, Submission):
            self._note(trace, begun)
        return begun

    def _note(self, trace: RequestTrace, result: Result) -> None:
        if isinstance(result, Submitted):
            note_submitted(trace, self._topic, result)

    def _submit_keyed(self, keyed: Keyed, on_result: OnResult, log: EventLog) -> Result | Submission:
        claim = self._keys.claim(keyed)
        match claim:
            case KeyConflict():
                return claim
            case Settled():
                return Submitted(claim.record, claim.outcome)
            case Follow():
                following = Submission(claim.record, on_result)
                claim.on_outcome(following.settle)
                return following
            case Lead():
                return Leading(claim, on_result).begin(log)
