"""What runs would do, as it was predicted: kept for a while, so that a browser may come back to the page that asks."""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from console.actions.dead_letters import Predicted
from console.actions.jobs import new_number

KEPT = 20


class Prediction(msgspec.Struct, frozen=True):
    """What was asked, by which filter, and what would have come of it then. `number`: also of the form that does it."""

    number: str
    what: str
    given: Mapping[str, str]
    found: Predicted
    at: datetime


class Predictions:
    """Those of this process, the newest last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Prediction] = OrderedDict()

    def keep(self, what: str, given: Mapping[str, str], found: Predicted) -> Prediction:
        """Keeps one; the oldest goes."""
        made = Prediction(new_number(), what, given, found, datetime.now(UTC))
        self._known[made.number] = made
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return made

    def find(self, number: str) -> Prediction | None:
        """The one with this number."""
        return self._known.get(number)
