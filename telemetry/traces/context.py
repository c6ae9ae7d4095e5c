"""W3C Trace Context, the header `traceparent` (https://www.w3.org/TR/trace-context/, level 1)."""

import re
from collections.abc import Iterable
from random import getrandbits

import msgspec

TRACEPARENT = b"traceparent"  # in HTTP; Kafka's record headers have the same name (contracts.record)
MAX_LENGTH = 128  # bytes; version 00 has 55, and a later version may append to it
SAMPLED = 1  # the one flag that level 1 has

Value = str | int | bool  # of a span's attribute

_fields = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?").fullmatch


class Context(msgspec.Struct, frozen=True, gc=False):
    """One span, as others name it. `sampled`: whether it is recorded."""

    trace_id: int
    span_id: int
    sampled: bool

    def header(self) -> bytes:
        """The value of `traceparent`."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, self.sampled)

    def child(self) -> "Context":
        """A new span of the same trace."""
        return Context(self.trace_id, new_span_id(), self.sampled)


def parse(value: bytes) -> Context | None:
    """Reads a `traceparent` that anybody may have written; None: it is not valid, and the trace begins anew."""
    if len(value) > MAX_LENGTH:
        return None
    found = _fields(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    context = Context(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & SAMPLED))
    return context if context.trace_id and context.span_id else None


def context_in(headers: Iterable[tuple[bytes, bytes]]) -> Context | None:
    """The context that the headers of a request name; None: there is none, or more than one."""
    values = [value for name, value in headers if name == TRACEPARENT]
    return parse(values[0]) if len(values) == 1 else None


def new_span_id() -> int:
    """A random id that is not zero."""
    return getrandbits(64) or 1
