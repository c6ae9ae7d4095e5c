"""Commands: bytes in, a valid command out, or every problem with them as a sentence. The catalogue names the types."""

import msgspec

from contracts.event import ActivityCommand
from contracts.types import Catalogue
from contracts.validation.large_payloads import LARGE_PAYLOAD, without_large_payload
from contracts.validation.payload_schemas import payload_checks
from contracts.validation.payloads import values_are_surely_exact
from contracts.validation.repeated_keys import surely_repeats_no_key
from contracts.validation.rules import EXPECTATIONS, Problems, Rules, is_surely_valid, problems_of

_decode = msgspec.json.Decoder(ActivityCommand).decode


class CommandRules:
    """What a deployment's commands must be, from its catalogue of event types."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.names = frozenset(catalogue.names)
        self.payload_checks = payload_checks({each.name: each.payload_schema for each in catalogue.types})
        expected = {**EXPECTATIONS, "eventType": f"must be one of {', '.join(catalogue.names)}"}
        self._rules = Rules(ActivityCommand, self.names.__contains__, expected)

    def validate(self, body: bytes) -> ActivityCommand | Problems:
        """Validates a partial event `{userId, eventType, payload?}`, as a client sends it (JSON, UTF-8).

        A key that is repeated in one object is refused here: parsers differ in which value they keep. So is a number
        that would be rounded. A record that is in the log already keeps the last value, and the nearest double, as it
        always did: history must stay readable.
        """
        try:
            command = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Problems(self._problems(body))
        if (  # written out, for a call more is a part of the whole that can be measured
            command.event_type in self.names
            and is_surely_valid(command, body, values_are_surely_exact)
            and surely_repeats_no_key(command, body)
            and not (self.payload_checks and self._schema_problems(command))
        ):
            return command
        problems = self._problems(body) or self._schema_problems(command)  # in doubt: it may be valid all the same
        return Problems(problems) if problems else command

    def _problems(self, body: bytes) -> list[str]:
        small = without_large_payload(body)
        if small is not None:
            return [*problems_of(small, self._rules), LARGE_PAYLOAD]
        return problems_of(body, self._rules)

    def _schema_problems(self, command: ActivityCommand) -> list[str]:
        check = self.payload_checks.get(command.event_type)
        return [] if check is None else check(command.payload)
