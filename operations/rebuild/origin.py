"""Where a new generation begins to read, and what it misses if the topic no longer begins at offset 0."""

from collections.abc import Mapping


def first_positions(ends: Mapping[int, int], beginnings: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Returns the partitions in order, and the oldest offset of each."""
    return sorted(ends), [beginnings.get(partition, 0) for partition in sorted(ends)]


def missing_events_refusal(topic: str, missing: Mapping[int, int]) -> str:
    """Says why a rebuild is refused. `missing`: partition to the first offset that the topic still holds."""
    gone = ", ".join(f"offsets 0 to {first - 1} of partition {p}" for p, first in sorted(missing.items()))
    return (
        f"The topic {topic} no longer holds {gone}: a generation built from it would lack these events. To build it "
        "without them: footfall rebuild start --accept-missing. `rebuild verify` will then name what differs from "
        "the serving generation, and `rebuild promote` will need --force."
    )
