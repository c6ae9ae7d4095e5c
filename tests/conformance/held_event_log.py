"""A log whose every moment a test chooses: what is sent, what lands, what is told, and when."""

import asyncio
from collections.abc import Callable, Sequence

from command_side.publishing.event_log import AWAY, FAILED, NOT_TAKEN, UNKNOWN, Acknowledged, NotTaken, Outcome
from contracts.record import EventRecord

Tell = Callable[[Outcome], None]


class Held:
    """One record and its publisher."""

    def __init__(self, record: EventRecord, tell: Tell, is_wanted: Callable[[], bool]) -> None:
        self.record = record
        self.tell = tell
        self._is_wanted = is_wanted
        self._withdrawn = False

    def withdraw(self) -> None:
        self._withdrawn = True

    def wanted(self) -> bool:
        return not self._withdrawn and self._is_wanted()


class HeldEventLog:
    """Keeps records waiting until `send`, and what was sent in flight until `answer`."""

    def __init__(self) -> None:
        self.stored: list[EventRecord] = []
        self.waiting: list[Held] = []
        self.in_flight: list[Held] = []
        self.away = False

    def has_room(self) -> bool:
        return not self.away

    def hand_over(self, record: EventRecord, tell: Tell) -> Held | NotTaken:
        if self.away:
            return AWAY
        held = Held(record, tell, lambda: True)
        self.waiting.append(held)
        return held

    async def publish(self, record: EventRecord) -> Outcome:
        outcomes = await self.publish_all([record])
        return outcomes if isinstance(outcomes, NOT_TAKEN) else outcomes[0]

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        if self.away:
            return AWAY
        futures: list[asyncio.Future[Outcome]] = [asyncio.get_running_loop().create_future() for _ in records]
        self.waiting += [
            Held(record, self._teller(future), lambda future=future: not future.done())  # type: ignore[misc]
            for record, future in zip(records, futures, strict=True)
        ]
        return await asyncio.gather(*futures)

    async def connected(self) -> bool:
        return not self.away

    @staticmethod
    def _teller(future: "asyncio.Future[Outcome]") -> Tell:
        return lambda outcome: None if future.done() else future.set_result(outcome)

    # --- what a test makes happen ---------------------------------------------------------------------------------

    def send(self) -> None:
        """What is still wanted goes to the broker."""
        self.in_flight += [held for held in self.waiting if held.wanted()]
        self.waiting = []

    def expire(self) -> None:
        """The time of what was not sent is over: it never will be."""
        waiting, self.waiting = self.waiting, []
        for held in waiting:
            if held.wanted():
                held.tell(FAILED)

    def answer(self, *, lands: bool, outcome: Outcome | None = None) -> None:
        """Ends the oldest in flight: it is stored or not, and its publisher told (None: where it landed)."""
        held = self.in_flight.pop(0)
        if lands:
            self.stored.append(held.record)
        if held.wanted():
            held.tell(outcome or Acknowledged(0, len(self.stored) - 1))

    def time_out(self, *, lands: bool) -> None:
        """The publishers of all in flight are told that nobody knows; what was on its way lands, or does not."""
        while self.in_flight:
            self.answer(lands=lands, outcome=UNKNOWN)
