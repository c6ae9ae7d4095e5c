"""Facts about a partition, as the judgement takes them."""

from typing import Any

from projector.consuming.consumer_group import Group, Member
from projector.liveness.projecting import Facts

PROJECTOR = Member("footfall-projector-host:1-read_g1", "/10.0.0.1")
STRANGER = Member("rdkafka", "/10.0.0.2")
OURS = Group("Stable", PROJECTOR, (PROJECTOR, STRANGER))


def some_facts(**fields: Any) -> Facts:
    """A partition of offsets 10 to 99 that is half done."""
    found: dict[str, Any] = {
        "generation": "read_g1",
        "generation_state": "active",
        "projected": True,
        "position": 40,
        "beginning": 10,
        "readable": 100,
        "end": 100,
        "group": OURS,
        "advanced": 0.5,
    }
    return Facts(**found | fields)
