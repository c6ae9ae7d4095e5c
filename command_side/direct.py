"""The usual command without a task, from a whole request to its answer: one that is plainly valid and no repeat.

Anything else, and any doubt, is left to the route on ASGI (`routes.py`), whose answers are the reference.
"""

from command_side import envelope
from command_side.admission import Admission, OverloadedError
from command_side.answers import PUBLISH_ANSWERS
from command_side.event_log import EventLog, Outcome, PublishError
from command_side.idempotency import KeyConflict, RecentKeys, Remembered
from command_side.incoming import JSON, RefusedError, read_headers
from command_side.settings import CommandSettings
from contracts.record import EventRecord, new_record
from contracts.rules import sound_command
from telemetry.asgi import Exchange, Takes


def direct_commands(log: EventLog, keys: RecentKeys, admission: Admission, settings: CommandSettings) -> Takes:
    """What takes the exchanges of `POST /events/generate`."""
    max_bytes = settings.max_body_bytes

    def take(exchange: Exchange) -> bool:
        body = exchange.body
        try:
            key = read_headers(exchange.headers, max_bytes).idempotency_key
            command = sound_command(body) if log.has_room() else None
            if command is None:
                return False
            size = admission.enter(len(body), max_bytes)
        except (RefusedError, OverloadedError):
            return False
        known = None if key is None else keys.claim(key, command, exchange.request_id)
        if isinstance(known, KeyConflict) or (known is not None and known.in_use()):
            admission.leave(size)
            return False
        record = new_record(command, exchange.request_id) if known is None else known.record
        Publishing(exchange, record, known, admission, size).begin(log)
        return True

    return take


class Publishing:
    """One command on its way: in flight until it is answered or its client has left."""

    __slots__ = ("_admission", "_exchange", "_handed", "_known", "_record", "_size")

    def __init__(
        self, exchange: Exchange, record: EventRecord, known: Remembered | None, admission: Admission, size: int
    ) -> None:
        """`known`: what is remembered of the command's key, if it has one."""
        self._exchange: Exchange | None = exchange  # None: its client has left
        self._record = record
        self._known = known
        self._admission = admission
        self._size = size

    def begin(self, log: EventLog) -> None:
        """Hands the record over."""
        if self._known is not None:
            self._known.lead()
        self._handed = log.hand_over(self._record, self._tell)
        if self._exchange is not None:
            self._exchange.when_gone(self._leave)

    def _leave(self) -> None:
        """The client left. What was not sent never will be, unless it has a key: its repeat may wait for it already."""
        self._exchange = None
        self._admission.leave(self._size)
        if self._known is None:
            self._handed.withdraw()

    def _tell(self, outcome: Outcome) -> None:
        if self._known is not None:
            self._known.settle(outcome)
        if self._exchange is None:
            return
        self._admission.leave(self._size)
        if isinstance(outcome, PublishError):
            status, text, headers = PUBLISH_ANSWERS[type(outcome)]
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._exchange.answer(status, envelope.failed(text), JSON, lines)
            return
        record = self._record
        lines = b"location: /events/%b\r\n" % record.event_id
        if outcome is not None:
            lines += b"footfall-position: %d-%d\r\n" % (outcome.partition, outcome.offset)
        self._exchange.answer(201, envelope.accepted(record.value), JSON, lines)
