"""Work that one process does for many traces at once: a produce round, a batch transaction.

Each trace has a span of it, so that it tells the whole life of its event. The first one stands for the work: it links
to all others, and they to it, so that whoever finds one of them finds all.
"""

from collections.abc import Callable, Mapping, Sequence

from telemetry.traces.context import Context, Value
from telemetry.traces.tracing import TRACING

Attributes = Mapping[str, Value]
NO_ATTRIBUTES: Attributes = {}


def record_joint(
    name: str,
    kind: str,
    contexts: Sequence[Context],
    times: tuple[int, int],
    attributes: Attributes,
    own: Callable[[Context], Attributes] = lambda _context: NO_ATTRIBUTES,
) -> list[Context]:
    """Records the work in the trace of each context, as a child of it.

    Args:
        name: Of the spans.
        kind: Of the spans, see `Recorder.record`.
        contexts: Distinct and sampled; the first one's span stands for the work.
        times: Begin and end, ns since 1970.
        attributes: Of the work.
        own: What else there is to say for one context; `error.type` says that it failed.

    Returns:
        The context of each span, in the order of `contexts`.
    """
    recorder = TRACING.recorder
    if recorder is None or not contexts:
        return []
    spans = [context.child() for context in contexts]
    for index, (span, parent) in enumerate(zip(spans, contexts, strict=True)):
        told = {**attributes, **own(parent)}
        error = told.get("error.type")
        links = [parent, *contexts[1:]] if index == 0 else [parent, spans[0]]
        recorder.record(name, kind, span, parent, times, told, links=links, error=None if error is None else str(error))
    return spans


def distinct(contexts: Sequence[Context]) -> list[Context]:
    """Each context once, in order."""
    return list(dict.fromkeys(contexts))
