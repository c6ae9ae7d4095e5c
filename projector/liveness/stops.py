"""Why a partition stands still: a closed set of causes, each with a way on (docs/stops.md)."""

from enum import Enum

import msgspec


class StopCause(Enum):
    """The value is the stable code: the first word of `stopped_reason`, for programs and for docs/stops.md."""

    DEFECT = "defect"
    SERVER = "server"
    PARKED_OF_KEY = "parked_of_key"
    PARKED_OF_PARTITION = "parked_of_partition"
    UNREADABLE = "unreadable"
    HISTORY_TRIMMED = "history_trimmed"
    HISTORY_CUT = "history_cut"
    ANOTHER_HISTORY = "another_history"


class Meaning(msgspec.Struct, frozen=True):
    """What a cause says, and what ends it.

    `probed`: the projector tries again by itself, with growing pauses. Otherwise it waits for an operator, whose
    command makes it go on within seconds.
    """

    sentence: str
    remedy: str
    probed: bool


MEANINGS = {
    StopCause.DEFECT: Meaning(
        "events that are known to be good cannot be applied either",
        "Look for `batch_failed` in the projector's log, and mend the code or the schema.",
        probed=True,
    ),
    StopCause.SERVER: Meaning(
        "PostgreSQL refuses or fails what is no record's fault",
        "Mend the database; `batch_failed` in the projector's log has the SQLSTATE.",
        probed=True,
    ),
    StopCause.PARKED_OF_KEY: Meaning(
        "the dead letters of one key are at the cap",
        "Redrive or discard them with `footfall dlq`, or raise MAX_PARKED_OF_ONE_KEY.",
        probed=False,
    ),
    StopCause.PARKED_OF_PARTITION: Meaning(
        "the dead letters of this partition are at the cap",
        "Redrive or discard them with `footfall dlq`, or raise MAX_PARKED_OF_ONE_PARTITION.",
        probed=False,
    ),
    StopCause.UNREADABLE: Meaning(
        "the Kafka client cannot take a record apart",
        "See docs/stops.md#unreadable.",
        probed=True,
    ),
    StopCause.HISTORY_TRIMMED: Meaning(
        "the topic no longer holds the record that the checkpoint needs",
        "Go on without it: `footfall gaps accept` (docs/stops.md#history_trimmed).",
        probed=False,
    ),
    StopCause.HISTORY_CUT: Meaning(
        "the log has lost its end",
        "`footfall rebuild start`, or accept: docs/stops.md#history_cut.",
        probed=False,
    ),
    StopCause.ANOTHER_HISTORY: Meaning(
        "the checkpoint belongs to another history of the topic",
        "`footfall rebuild start`, or accept: docs/stops.md#another_history.",
        probed=False,
    ),
}


class Stop(msgspec.Struct, frozen=True):
    """Why one partition stands still. `fact`: offsets, counts, an error's class; never a value of an event."""

    cause: StopCause
    fact: str = ""

    @property
    def reason(self) -> str:
        """The text of `stopped_reason`, of health and of the log: code, sentence, fact, remedy."""
        meaning = MEANINGS[self.cause]
        fact = f" ({self.fact})" if self.fact else ""
        return f"{self.cause.value}: {meaning.sentence}{fact}. {meaning.remedy}"

    @property
    def probed(self) -> bool:
        """Whether the projector tries again by itself."""
        return MEANINGS[self.cause].probed


def cause_of(reason: str) -> StopCause | None:
    """The cause that a `stopped_reason` names; None for one written by a version that knew other words."""
    code = reason.partition(":")[0]
    return next((cause for cause in StopCause if cause.value == code), None)
