"""The usual command without a task, from a whole request to its answer: one that is plainly valid and no repeat.

Anything else, and any doubt, is left to the route on ASGI (`routes.py`), whose answers are the reference.
"""

from command_side.admission import Admission, OverloadedError
from command_side.api.request import JSON, RefusedError, read_headers
from command_side.api.responses import OVERLOADED, PUBLISH_ANSWERS, RETRY_AFTER
from command_side.idempotency import Lead, RecentKeys
from command_side.publishing.event_log import NOT_TAKEN, Acknowledged, AcknowledgedSomewhere, EventLog, Outcome
from command_side.settings import CommandSettings
from contracts.record import EventRecord, new_record
from contracts.validation.rules import sound_command
from telemetry.metrics import COMMANDS_REJECTED
from web import envelope
from web.asgi import Exchange


class DirectCommands:
    """What takes the exchanges of `POST /events/generate`."""

    def __init__(self, log: EventLog, keys: RecentKeys, admission: Admission, settings: CommandSettings) -> None:
        self._log = log
        self._keys = keys
        self._admission = admission
        self._max_bytes = settings.max_body_bytes

    def take(self, exchange: Exchange) -> bool:
        """See `web.asgi.Takes`."""
        try:
            key = read_headers(exchange.headers, self._max_bytes).idempotency_key
            size = self._admission.enter(len(exchange.body), self._max_bytes)
        except RefusedError:
            return False
        except OverloadedError:  # to refuse must cost less than to accept
            COMMANDS_REJECTED.labels(status=503).inc()
            exchange.answer(503, envelope.failed(OVERLOADED), JSON, lines_of(RETRY_AFTER))
            return True
        publishing = None
        try:
            publishing = self._begun(exchange, key, size)
        finally:
            if publishing is None:
                self._admission.leave(size)
        return publishing is not None

    def _begun(self, exchange: Exchange, key: bytes | None, size: int) -> "Publishing | None":
        """None: it is not plainly valid, a repeat, or the log has no room."""
        command = sound_command(exchange.body) if self._log.has_room() else None
        if command is None:
            return None
        lead = None
        if key is not None:
            claim = self._keys.claim(self._keys.keyed(key, command, exchange.request_id))
            if not isinstance(claim, Lead):
                return None
            lead = claim
        record = new_record(command, exchange.request_id) if lead is None else lead.record
        publishing = Publishing(exchange, record, lead, self._admission, size)
        publishing.begin(self._log)
        return publishing


class Publishing:
    """One command on its way: in flight until it is answered or its client has left."""

    __slots__ = ("_admission", "_exchange", "_handed", "_lead", "_record", "_size")

    def __init__(
        self, exchange: Exchange, record: EventRecord, lead: Lead | None, admission: Admission, size: int
    ) -> None:
        """`lead`: the command's part in its key's record, if it has a key."""
        self._exchange: Exchange | None = exchange  # None: its client has left
        self._record = record
        self._lead = lead
        self._admission = admission
        self._size = size

    def begin(self, log: EventLog) -> None:
        """Hands the record over."""
        try:
            handed = log.hand_over(self._record, self._tell)
        except BaseException:
            if self._lead is not None:
                self._lead.leave()
            raise
        if isinstance(handed, NOT_TAKEN):
            self._tell(handed)
            return
        self._handed = handed
        if self._exchange is not None:
            self._exchange.when_gone(self._leave)

    def _leave(self) -> None:
        """The client left. What was not sent never will be, unless it has a key: its repeat may wait for it already."""
        self._exchange = None
        self._admission.leave(self._size)
        if self._lead is None:
            self._handed.withdraw()

    def _tell(self, outcome: Outcome) -> None:
        if self._lead is not None:
            outcome = self._lead.settle(outcome)
        if self._exchange is None:
            return
        self._admission.leave(self._size)
        record = self._record
        lines = b"location: /events/%b\r\n" % record.event_id
        if isinstance(outcome, Acknowledged):
            lines += b"footfall-position: %d-%d\r\n" % (outcome.partition, outcome.offset)
        elif not isinstance(outcome, AcknowledgedSomewhere):
            status, text, headers = PUBLISH_ANSWERS[type(outcome)]
            self._exchange.answer(status, envelope.failed(text), JSON, lines_of(*headers))
            return
        self._exchange.answer(201, envelope.accepted(record.value), JSON, lines)


def lines_of(*headers: tuple[bytes, bytes]) -> bytes:
    """Headers as `Exchange.answer` wants them."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
