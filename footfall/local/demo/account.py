"""What the demo was asked for, and its account of what it sent and found."""

from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True)
class DemoOptions:
    """How many events to post, and how."""

    events: int = 20_000
    users: int = 500
    seed: int = 1
    connections: int = 32
    invalid: int = 200  # bodies that must be rejected
    duplicates: int = 200  # records of accepted events, produced once more
    broken: int = 50  # records that are not events


@dataclass
class Account:
    """What the demo sent, and what it found afterwards. Times in seconds; ids as text.

    `surprises`: answers that were not expected. `phantoms`: events that are stored but were not accepted here.
    """

    sent: int = 0
    batches: int = 0
    batched: int = 0  # events sent in batches
    rejected: int = 0
    surprises: list[str] = field(default_factory=list)
    accepted: dict[str, bytes] = field(default_factory=dict)  # event id -> event as the 201 showed it
    post_seconds: list[float] = field(default_factory=list)
    visible_seconds: list[float] = field(default_factory=list)
    post_at_rest: list[float] = field(default_factory=list)
    visible_at_rest: list[float] = field(default_factory=list)
    accepted_under_load: int = 0
    projected_under_load: int = 0
    posting_took: float = 0.0
    projecting_took: float = 0.0
    projected: int = 0
    duplicates: int = 0
    malformed: int = 0
    missing: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)

    def exact(self) -> bool:
        """Whether exactly the accepted events were projected, and no answer was unexpected."""
        return not (self.missing or self.phantoms or self.surprises) and self.projected == len(self.accepted) > 0


class _Id(msgspec.Struct, rename="camel"):
    event_id: str


_id = msgspec.json.Decoder(_Id)


def event_id_of(event: bytes) -> str:
    """The id of an event's JSON."""
    return _id.decode(event).event_id
