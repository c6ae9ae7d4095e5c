"""What the trace of one event tells while a fault stands, and once it is mended."""

import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tests.drivers.faults.world import RUNAWAY, Tells, World
from tests.otlp_receiver import Span
from tests.patience import PATIENCE
from tests.processes import wait_until

RECORDED = {"POST", "send", "produce"}
LIFE = {*RECORDED, "process", "INSERT", "visible"}
SLOW = 1.0  # seconds of a produce round
LATE = 590.0  # seconds until an event is visible, by a clock that is ten minutes off
IsTold = Callable[[int], None]  # is given the moment at which the remedy was followed, ns since 1970
_numbers = itertools.count(1)


@dataclass
class Life:
    """One traced event. `trace` is its trace's id."""

    world: World
    trace: str
    status: int

    def spans(self) -> Mapping[str, Span]:
        """Its spans, by the first word of their names."""
        return {span.name.split()[0]: span for span in self.world.receiver.traces().get(self.trace, [])}

    def wait_for(self, names: set[str]) -> Mapping[str, Span]:
        """All its spans, once these are there."""
        try:
            wait_until(lambda: names <= self.spans().keys(), 20, f"{names} in a trace")
        except AssertionError as error:
            raise AssertionError(f"{error}, which has {self.spans().keys()}") from None
        return self.spans()


def an_event_is_sent(world: World, user: str, address: str = "127.0.0.1") -> Life:
    """A visitor at that address, of whom every process is to record what it does."""
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{next(_numbers):016x}-01"}
    body = {"userId": user, "eventType": "LOGIN", "payload": {}}
    where = f"{world.front.url}/events/generate"
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    with httpx.Client(transport=transport, timeout=PATIENCE) as client:
        answer = client.post(where, json=body, headers=headers)
    return Life(world, trace, answer.status_code)


def told_while_it_stands(world: World, tells: Tells) -> IsTold:
    """Sends an event while a fault stands. Returns what is to be asserted of its trace when the fault is mended."""
    if tells == "slow":
        return _slow(world)
    from_where = [RUNAWAY] if tells == "limited" else []
    life = an_event_is_sent(world, "poisoned" if tells == "parked" else "traced", *from_where)
    assert life.status == {"refused": 503, "limited": 429}.get(tells, 201)
    if tells == "waits":
        return _waits(life)
    {"whole": _whole, "refused": _refused, "parked": _parked, "late": _late, "limited": _limited}[tells](life)
    return _nothing_more


def _nothing_more(_mended: int) -> None:
    """All was told while the fault stood."""


def _whole(life: Life) -> None:
    assert not life.wait_for(LIFE)["process"].failed


def _late(life: Life) -> None:
    assert seconds(life.wait_for(LIFE)["visible"]) > LATE


def _limited(life: Life) -> None:
    found = life.wait_for({"POST"})
    assert found["POST"].attributes["http.response.status_code"] == 429
    assert found.keys() == {"POST"}


def _refused(life: Life) -> None:
    found = life.wait_for({"POST", "send"})
    assert found["POST"].attributes["http.response.status_code"] == 503
    assert found["send"].attributes["error.type"]
    assert found["send"].failed


def _parked(life: Life) -> None:
    found = life.wait_for({*RECORDED, "process"})
    assert found["process"].attributes["footfall.outcome"] == "parked"
    assert found["process"].failed
    assert "visible" not in found


def _waits(life: Life) -> IsTold:
    assert life.wait_for(RECORDED).keys() == RECORDED

    def went_on(mended: int) -> None:
        assert life.wait_for(LIFE)["visible"].end > mended

    return went_on


def _slow(world: World) -> IsTold:
    def is_slow() -> bool:
        life = an_event_is_sent(world, "traced")
        return life.status == 201 and seconds(life.wait_for(LIFE)["produce"]) > SLOW

    wait_until(is_slow, 60, "a produce round that is slow")
    return _nothing_more


def seconds(span: Span) -> float:
    return (span.end - span.begin) / 1e9
