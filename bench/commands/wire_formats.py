"""What the wire formats cost: writing a record framed and as a CloudEvent, and reading framed ones."""

import time
from collections.abc import Callable

from bench.clients.traffic import events
from bench.result import Result, compared
from bench.stage import Stage
from contracts.record import to_record
from contracts.validation.fast_events import validate_events_fast
from contracts.wire.format import WireFormat
from contracts.wire.frames import frame_for

EVENTS = 500  # of one batch
ROUNDS = 100  # others on the machine can only add: the least counts
FRAMED, CLOUD_EVENTS = WireFormat(frame=frame_for(7)), WireFormat(cloud_events=True)


def wire_formats(stage: Stage) -> list[Result]:
    """CPU of an event in one process: framing it, its CloudEvents headers, validating framed events; beside plain."""
    records = [to_record(event, "request-1") for event in events(1, EVENTS)]
    plain = [record.value for record in records]
    framed = [FRAMED.written(record).value for record in records]
    work: dict[str, Callable[[], object]] = {
        "wire_validate_framed": lambda: validate_events_fast(framed),
        "wire_write_framed": lambda: list(map(FRAMED.written, records)),
        "wire_write_cloud_events": lambda: list(map(CLOUD_EVENTS.written, records)),
    }
    validated = _least(lambda: validate_events_fast(plain))
    stage.say(f"wire_formats: an event is validated in {validated:.2f} us")
    return [compared(name, "us", [_least(one)], "validating plain events", [validated]) for name, one in work.items()]


def _least(work: Callable[[], object]) -> float:
    """Microseconds of CPU for one event."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found) / EVENTS * 1e6
