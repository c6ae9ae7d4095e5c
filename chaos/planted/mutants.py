"""The planted faults that the checker must catch, each with its trigger.

`python -m chaos.planted.mutant NAME ..` applies a patch and then runs `footfall ..`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chaos.checking.reference_model import KEYS
from chaos.planted import command_faults, projector_faults
from chaos.planted.triggers import (
    ack_nothing,
    crashes,
    duplicates,
    failing_database,
    fresh_duplicates,
    nothing,
    rebalances,
    stalled_broker,
    zombies,
)
from chaos.stand.cluster import Cluster

ROWS = tuple(f"rows of {table}" for table in KEYS)
UNIQUE = "ALTER TABLE read_g1.processed_events DROP CONSTRAINT processed_events_event_id_key"


@dataclass(frozen=True)
class Mutant:
    """A fault: its role, its patch, its trigger, and the findings of which the checker must report at least one."""

    role: str  # projector or command
    plant: Callable[[], None]
    trigger: Callable[[Cluster], None]
    expected: tuple[str, ...]
    schema: str = ""


def leaves_the_product_as_it_is() -> None:
    """Patches nothing: the fault is in the schema."""


MUTANTS: dict[str, Mutant] = {
    "no unique constraint": Mutant("projector", leaves_the_product_as_it_is, duplicates, ("duplicated",), UNIQUE),
    "checkpoint before rows": Mutant("projector", projector_faults.checkpoint_before_rows, crashes, ("lost",)),
    "no fence": Mutant("projector", projector_faults.no_fence, zombies, ("checkpoints", "lost", "duplicated", *ROWS)),
    "swallowed error": Mutant("projector", projector_faults.swallows_errors, failing_database, ("lost",)),
    "commit on rebalance without data": Mutant(
        "projector", projector_faults.commits_on_rebalance, rebalances, ("lost",)
    ),
    "duplicates projected": Mutant("projector", projector_faults.projects_duplicates, duplicates, ROWS),
    "repeats within a batch projected": Mutant("projector", projector_faults.keeps_repeats, fresh_duplicates, ROWS),
    "stale projection": Mutant("projector", projector_faults.projects_in_reverse, fresh_duplicates, ROWS),
    "offset plus two": Mutant("projector", projector_faults.moves_one_too_far, nothing, ("lost", "checkpoints")),
    "last record of a batch dropped": Mutant("projector", projector_faults.drops_the_last_record, nothing, ("lost",)),
    "payload encoded wrongly": Mutant("projector", projector_faults.rounds_numbers, nothing, ("corrupted",)),
    "sound events parked": Mutant("projector", projector_faults.parks_by_mistake, nothing, ("dead letters",)),
    "new event id on retry": Mutant("command", command_faults.new_id_on_retry, nothing, ("duplicated",)),
    "users scattered over partitions": Mutant("command", command_faults.scatters_users, nothing, ("reordered",)),
    "who follows a failure is told success": Mutant(
        "command", command_faults.acknowledges_who_follows, stalled_broker, ("lost",)
    ),
    "acknowledged before Kafka": Mutant("command", command_faults.acknowledges_early, ack_nothing, ("lost",)),
}
