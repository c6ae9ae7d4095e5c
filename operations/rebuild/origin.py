"""Where a generation begins, and what it lacks when the topic no longer reaches back to its origin."""

from collections.abc import Mapping


def columns(ends: Mapping[int, int], beginnings: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """The partitions, and where each begins."""
    return sorted(ends), [beginnings.get(partition, 0) for partition in sorted(ends)]


def lacking(topic: str, missing: Mapping[int, int]) -> str:
    """Why a rebuild is refused. `missing`: partition to the first offset that the topic still holds."""
    gone = ", ".join(f"offsets 0 to {first - 1} of partition {p}" for p, first in sorted(missing.items()))
    return (
        f"The topic {topic} no longer holds {gone}: a generation built from it would lack these events. To build it "
        "without them all the same: footfall rebuild start --accept-missing. `rebuild verify` will then name what "
        "differs from the one that serves, and `rebuild promote` will want --force."
    )
