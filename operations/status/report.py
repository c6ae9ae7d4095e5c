"""What a status says: the shapes, and the sentences about what is not well."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from operations.misplaced_records import Misplaced
from projector.liveness.projecting import Facts
from projector.liveness.verdicts import State, Verdict


class PartitionStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One partition in one generation.

    `lag`: events that Kafka acknowledged and that are not projected yet. `lag_seconds`: age of the next record to
    process; None if it is not known, or the record may not be read yet (its transaction is open).
    """

    partition: int
    state: State
    owner: str | None
    checkpoint: int | None
    end_offset: int
    lag: int
    lag_seconds: float | None
    reason: str | None = None
    well: bool = True


class GenerationStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One generation. `progress`: share of the log that it has processed, 0 to 1."""

    name: str
    state: str
    progress: float | None
    partitions: list[PartitionStatus]


class SinkStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One sink. `parked`: its dead letters that wait; None: this role may not see them."""

    name: str
    progress: float | None
    partitions: list[PartitionStatus]
    parked: int | None = None
    state: str = "sink"


class LetterCount(msgspec.Struct, frozen=True):
    """The number of dead letters of the active generation with this cause and state."""

    cause: str
    state: str
    count: int


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The whole status.

    `problems`: a sentence for each thing that is not well; empty: all is well. `warnings`: a sentence for each promise
    that the topic breaks or that could not be checked, and for catalogues that differ; nothing has failed yet.
    `event_types`: digests of the catalogues by which the projectors of the active generation project.
    """

    at: datetime
    topic: str
    generations: list[GenerationStatus]
    dead_letters: list[LetterCount]
    problems: list[str]
    misplaced: Misplaced
    warnings: list[str] = msgspec.field(default_factory=list)
    event_types: list[str] = msgspec.field(default_factory=list)
    sinks: list[SinkStatus] = msgspec.field(default_factory=list)


def partition_status(partition: int, facts: Facts, verdict: Verdict, owner: str | None) -> PartitionStatus:
    """Makes the row that is shown for one partition."""
    age = 0.0 if facts.lag == 0 else facts.next_age
    return PartitionStatus(
        partition,
        verdict.state,
        owner or None,
        facts.position,
        facts.end,
        facts.lag,
        None if age is None else round(age, 3),
        verdict.reason,
        verdict.healthy,
    )


def progress(partitions: Iterable[Facts]) -> float | None:
    """Returns the share of the log that is processed, 0 to 1; None if nothing is known."""
    found = list(partitions)
    whole = sum(facts.end - facts.beginning for facts in found)
    left = sum(facts.lag for facts in found)
    return None if not found else 1.0 if whole == 0 else max(0.0, min(1.0, 1 - left / whole))


STATE_PHRASES: dict[State, str] = {
    "stopped": "has stopped",
    "gone": "cannot go on",
    "unowned": "is not projected",
    "foreign": "is not projected",
    "waiting": "waits",
    "standing": "stands still",
    "unknown": "is in an unknown state",
}


def problems(generation: GenerationStatus, max_lag: int | None) -> list[str]:
    """Returns a sentence for each partition that does not move, and for each that lags more than `max_lag` events.

    Of a generation that is not active, a partition without an owner is no problem.
    """
    active = generation.state == "active"
    found = standing(generation.name, generation.partitions, alone=active)
    if active and max_lag is not None:
        found += [
            f"{generation.name}, partition {each.partition} lags by {each.lag:,} events, more than {max_lag:,}."
            for each in generation.partitions
            if each.lag > max_lag
        ]
    return found


def standing(name: str, partitions: Iterable[PartitionStatus], *, alone: bool) -> list[str]:
    """Returns a sentence for each partition that does not move. `alone`: also for one that has no owner."""
    return [
        f"{name}, partition {each.partition} {STATE_PHRASES.get(each.state, f'is {each.state}')}: "
        f"{(each.reason or '').rstrip('.')}."
        for each in partitions
        if not each.well and (alone or each.state != "unowned")
    ]
