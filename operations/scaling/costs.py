"""What an event costs, as it was measured (docs/scaling.md names the command for each)."""

import msgspec


class Costs(msgspec.Struct, frozen=True):
    """Of one event, of about 150 bytes of JSON. `_us`: microseconds of one core. `_bytes`: on disk, in one copy."""

    post_us: float  # the command side, one event a request
    batched_us: float  # the command side, batches of 500
    broker_us: float  # a broker with the kernel's part, one copy
    projector_us: float  # all projections
    postgresql_us: float  # the same, in PostgreSQL
    log_bytes: float  # in Kafka, gzip
    row_bytes: float  # in PostgreSQL: rows, indexes and projections
    usual_bytes: int = 150  # of the event's JSON, to which the bytes above belong
    least_share: float = 0.85  # of a core that one event loop turns into work: the rest are its waits


MEASURED = Costs(
    post_us=30.0,
    batched_us=4.9,
    broker_us=3.0,
    projector_us=14.0,
    postgresql_us=15.6,
    log_bytes=52.0,
    row_bytes=875.0,
)
