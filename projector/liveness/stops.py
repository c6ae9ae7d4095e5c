"""The closed set of causes for which a partition stops, each with a remedy (docs/stops.md)."""

from enum import Enum

import msgspec


class StopCause(Enum):
    """A cause. Its value is a stable code, the first word of `stopped_reason`; docs/stops.md explains each code."""

    DEFECT = "defect"
    SERVER = "server"
    PARKED_OF_KEY = "parked_of_key"
    PARKED_OF_PARTITION = "parked_of_partition"
    UNREADABLE = "unreadable"
    HISTORY_TRIMMED = "history_trimmed"
    HISTORY_CUT = "history_cut"
    ANOTHER_HISTORY = "another_history"


class Meaning(msgspec.Struct, frozen=True):
    """The explanation of a cause: what happened (`sentence`) and what to do (`remedy`).

    `probed`: the projector retries by itself, with an increasing back-off. Otherwise the partition waits for an
    operator's command and continues within seconds after it.
    """

    sentence: str
    remedy: str
    probed: bool


MEANINGS = {
    StopCause.DEFECT: Meaning(
        "events that are known to be good cannot be applied either",
        "See `batch_failed` in the projector's log, and repair the code or the schema.",
        probed=True,
    ),
    StopCause.SERVER: Meaning(
        "PostgreSQL refuses or fails for a reason that is not the record's",
        "Repair the database; `batch_failed` in the projector's log has the SQLSTATE.",
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
        "the Kafka client cannot decode a record",
        "See docs/stops.md#unreadable.",
        probed=True,
    ),
    StopCause.HISTORY_TRIMMED: Meaning(
        "the topic no longer holds the record that the checkpoint needs",
        "Continue without it: `footfall gaps accept` (docs/stops.md#history_trimmed).",
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
    """Why one partition stopped. `fact`: offsets, counts or the class of an error; never a value of an event."""

    cause: StopCause
    fact: str = ""

    @property
    def reason(self) -> str:
        """The text for `stopped_reason`, health and the log: code, sentence, fact and remedy."""
        meaning = MEANINGS[self.cause]
        fact = f" ({self.fact})" if self.fact else ""
        return f"{self.cause.value}: {meaning.sentence}{fact}. {meaning.remedy}"

    @property
    def probed(self) -> bool:
        """Whether the projector retries by itself."""
        return MEANINGS[self.cause].probed


def cause_of(reason: str) -> StopCause | None:
    """Returns the cause that a `stopped_reason` names; None if another version wrote it with other codes."""
    code = reason.partition(":")[0]
    return next((cause for cause in StopCause if cause.value == code), None)
