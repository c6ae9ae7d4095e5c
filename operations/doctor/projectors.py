"""What can be wrong between the projectors and the topic: strangers in the group, and a history that shrinks."""

from collections.abc import Iterable

from brokers.settings import KafkaSettings
from operations.doctor.findings import Finding, well_unless
from operations.status.report import GenerationStatus, PartitionStatus, standing
from projector.consuming.consumer_group import GroupDescription, describe_group
from projector.consuming.topic_description import describe_topic
from projector.generations.loop import group_of
from projector.liveness.verdicts import State
from projector.settings import ProjectorSettings

AT_RISK = 0.5  # of the retention, as lag
PHRASES: dict[State, str] = {  # of several partitions, as `STATE_PHRASES` of one
    "stopped": "have stopped",
    "gone": "cannot go on",
    "unowned": "are not projected",
    "foreign": "are not projected",
    "waiting": "wait",
    "standing": "stand still",
    "unknown": "are in an unknown state",
}
REMEDIES: dict[State, str] = {  # where the reason does not say what to do
    "unowned": "Start a projector. If one runs, its log and its `/health` say what it waits for.",
    "joining": "Look at the log of the projectors, and that none of them is frozen.",
    "blocked": "End the producer's transaction, or wait for Kafka to abort it.",
    "waiting": "The reason names what it waits for; it goes on by itself when that is over.",
    "standing": "Look at the log of its owner, which `footfall status` names, and end that one: another takes over.",
    "unknown": "Look at the projectors' logs; docs/health.md explains the state.",
}


def standing_findings(generations: Iterable[GenerationStatus]) -> list[Finding]:
    """What does not move, once for all partitions of a generation that stand so for the same reason."""
    found = []
    for generation in generations:
        alike: dict[tuple[State, str], list[PartitionStatus]] = {}
        for each in generation.partitions:
            if not each.well and (generation.state == "active" or each.state != "unowned"):
                alike.setdefault((each.state, each.reason or ""), []).append(each)
        for (state, reason), partitions in alike.items():
            [says] = standing(generation.name, partitions[:1], alone=True)
            if len(partitions) > 1:
                numbers = spans(each.partition for each in partitions)
                phrase = PHRASES.get(state, f"are {state}")
                says = f"{generation.name}, partitions {numbers} {phrase}: {reason.rstrip('.')}."
            found.append(Finding("projecting", "problem", says, REMEDIES.get(state, "")))
    return found


def spans(numbers: Iterable[int]) -> str:
    """Numbers in words, with those that follow each other together: 0 to 2, 5."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in found)


async def group_findings(settings: ProjectorSettings, generation: GenerationStatus) -> list[Finding]:
    """Who is in the consumer group of the active generation. Raises KafkaError when no broker answers."""
    name = group_of(settings, generation.name)
    group = await describe_group(settings.client_options(), name, settings.kafka_topic)
    return members(name, group, generation.name, len(generation.partitions))


def members(name: str, group: GroupDescription, generation: str, partitions: int) -> list[Finding]:
    """Only projectors are in the group, and there are not more of them than partitions."""
    if group.error is not None:
        says = f"The consumer group {name} cannot be described: {group.error}."
        return [Finding("group", "unknown", says, f"Grant DESCRIBE on group {name}.")]
    found = [
        Finding(
            "group",
            "problem",
            f"{member} is in the consumer group {name}, and is no projector of {generation}: it takes partitions away.",
            "Stop that client, or give it a group.id of its own.",
        )
        for member in group.for_partition(-1).foreign_members(generation)
    ]
    ours = [member for member in group.members if member.projects(generation)]
    spare = f" {len(ours) - partitions} of them have nothing to do." if len(ours) > partitions else ""
    return well_unless("group", found, f"{len(ours)} projectors share {partitions} partitions.{spare}")


def builds(generations: Iterable[GenerationStatus]) -> list[Finding]:
    """A rebuild that has not read everything has projectors that work on it."""
    found = [
        Finding(
            "rebuild",
            "warning",
            f"The rebuild of {each.name} has read {each.progress or 0:.0%} of the log, and no projector works on it.",
            "Start a projector, or give it up: footfall rebuild cancel.",
        )
        for each in generations
        if each.state == "building" and each.progress != 1.0 and all(p.state == "unowned" for p in each.partitions)
    ]
    return well_unless("rebuild", found, "None stands still.")


async def history_findings(settings: KafkaSettings, partitions: Iterable[PartitionStatus]) -> list[Finding]:
    """Whether retention removes events before they are projected. Raises KafkaError when no broker answers."""
    topic = await describe_topic(settings.client_options(), settings.kafka_topic)
    kept = topic.configs.get("retention.ms", "-1")
    return at_risk(settings.kafka_topic, int(kept) / 1000 if kept.isdigit() else None, partitions)


def at_risk(topic: str, kept: float | None, partitions: Iterable[PartitionStatus]) -> list[Finding]:
    """The partitions whose next events are as old as what Kafka removes. `kept`: seconds; None: for ever."""
    if kept is None:
        return [Finding("history", "well", "No record is removed for its age.")]
    found = [
        Finding(
            "history",
            "problem",
            f"Partition {each.partition} is {each.lag_seconds:.0f} s behind, and Kafka removes what is older than "
            f"{kept:.0f} s: events vanish before they are projected.",
            f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config retention.ms=-1",
        )
        for each in partitions
        if each.lag_seconds is not None and each.lag_seconds > AT_RISK * kept
    ]
    return well_unless("history", found, f"Kafka keeps records for {kept:.0f} s, and every partition is far ahead.")
