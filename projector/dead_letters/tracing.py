"""What traces say of dead letters: that they were published, and what became of them when they were redriven."""

import time
from collections.abc import Iterable, Mapping, Sequence

from projector.dead_letters.redrive_attempt import Letter
from projector.tracing import Traced, context_of, of_topic, place_of, record_visible, traced_records
from telemetry.traces.context import Context, Value
from telemetry.traces.joint_work import record_joint
from telemetry.traces.tracing import TRACING

DONE = frozenset({"stored", "duplicate", "discarded"})  # outcomes of letters that are not failures


def record_dead_letters(headers: Iterable[Sequence[tuple[str, bytes | None]]], topic: str, began: int) -> None:
    """Records that records with these headers were published to the dead letter topic. `began`: ns since 1970."""
    if TRACING.recorder is None:
        return
    found = [context_of([(name, value) for name, value in each if value is not None]) for each in headers]
    contexts = list(dict.fromkeys(context for context in found if context is not None))
    record_joint(f"send {topic}", "producer", contexts, (began, time.time_ns()), of_topic(topic, "send"))


class RedriveTrace:
    """The spans of a redrive, in the traces of the events: one chunk after the other."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._began = 0
        self._traced: Traced = {}

    def began(self, letters: list[Letter]) -> list[Letter]:
        """Letters of one partition are about to be applied. Returns them."""
        self._began = time.time_ns()
        self._traced = {} if TRACING.recorder is None else traced_records([letters])
        return letters

    def committed(self, topic: str, outcomes: Mapping[int, str]) -> None:
        """Records what became of them. `outcomes`: by offset."""
        traced, times = self._traced, (self._began, time.time_ns())
        self._traced = {}
        if not traced:
            return

        def own(context: Context) -> dict[str, Value]:
            words = sorted({outcomes.get(each.offset, "unknown") for each in traced[context]})
            failed = [word for word in words if word not in DONE]
            told: dict[str, Value] = {"footfall.outcome": words[0]}
            return {**place_of(traced[context]), **told, **({"error.type": failed[0]} if failed else {})}

        attributes: dict[str, Value] = {**of_topic(topic, "redrive"), "footfall.redrive.run": self.run_id}
        record_joint(f"redrive {topic}", "consumer", list(traced), times, attributes, own)
        stored = {
            context: [each for each in records if outcomes.get(each.offset) == "stored"]
            for context, records in traced.items()
        }
        record_visible(stored, times[1])
