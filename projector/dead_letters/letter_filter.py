"""The filter by which an operator selects dead letters. All conditions must hold; None means no condition."""

from datetime import datetime

import msgspec

from projector.writing.failure import Cause
from read_model.tables.dead_letters import TENANT_OF_KEY

# `LetterFilter.arguments` gives the parameters $1 to $11.
MATCHES = f"""
    ($1::text IS NULL OR user_id = $1)
    AND ($2::text IS NULL OR error_class = $2 OR position(lower($2) IN lower(error_message)) > 0)
    AND ($3::text IS NULL OR cause = $3)
    AND ($4::timestamptz IS NULL OR parked_at >= $4) AND ($5::timestamptz IS NULL OR parked_at < $5)
    AND ($6::text IS NULL OR kafka_topic = $6) AND ($7::int IS NULL OR kafka_partition = $7)
    AND ($8::bigint IS NULL OR kafka_offset >= $8) AND ($9::bigint IS NULL OR kafka_offset <= $9)
    AND ($10::text IS NULL OR state = $10) AND ($11::text IS NULL OR {TENANT_OF_KEY} = $11)
"""


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Conditions on dead letters.

    `error`: the error's class, or a part of its message in any letter case. `since` (inclusive) and `until` (exclusive)
    apply to the time of parking. `from_offset` and `to_offset` are inclusive.
    """

    user: str | None = None
    error: str | None = None
    cause: Cause | None = None
    since: datetime | None = None
    until: datetime | None = None
    topic: str | None = None
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    state: str | None = None
    tenant: str | None = None

    def arguments(self) -> tuple[object, ...]:
        """Returns the parameters $1 to $11 of `MATCHES`."""
        return msgspec.structs.astuple(self)
