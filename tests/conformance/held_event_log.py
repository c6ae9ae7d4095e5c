"""A log whose every moment a test chooses: what is sent, what lands, what is told, and when."""

import asyncio
from collections.abc import Callable, Sequence

from command_side.publishing.event_log import AWAY, FAILED, UNKNOWN, Acknowledged, NotTaken, Outcome
from contracts.record import EventRecord

OnResult = Callable[[Outcome], None]


class Held:
    """One record and its publisher."""

    def __init__(self, record: EventRecord, on_result: OnResult, is_wanted: Callable[[], bool]) -> None:
        self.record = record
        self.on_result = on_result
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

    def publish_nowait(self, record: EventRecord, on_result: OnResult) -> Held | NotTaken:
        if self.away:
            return AWAY
        held = Held(record, on_result, lambda: True)
        self.waiting.append(held)
        return held

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        if self.away:
            return AWAY
        futures: list[asyncio.Future[Outcome]] = [asyncio.get_running_loop().create_future() for _ in records]
        self.waiting += [
            Held(record, self._resolver(future), lambda future=future: not future.done())  # type: ignore[misc]
            for record, future in zip(records, futures, strict=True)
        ]
        return await asyncio.gather(*futures)

    async def connected(self) -> bool:
        return not self.away

    async def partition_count(self) -> int:
        return 1

    @staticmethod
    def _resolver(future: "asyncio.Future[Outcome]") -> OnResult:
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
                held.on_result(FAILED)

    def answer(self, *, lands: bool, outcome: Outcome | None = None) -> None:
        """Ends the oldest in flight: it is stored or not, and its publisher told (None: where it landed)."""
        held = self.in_flight.pop(0)
        if lands:
            self.stored.append(held.record)
        if held.wanted():
            held.on_result(outcome or Acknowledged(0, len(self.stored) - 1))

    def time_out(self, *, lands: bool) -> None:
        """The publishers of all in flight are told that nobody knows; what was on its way lands, or does not."""
        while self.in_flight:
            self.answer(lands=lands, outcome=UNKNOWN)
