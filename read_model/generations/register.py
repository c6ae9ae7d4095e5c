"""The register of generations: their states, limits and positions (docs/decisions/0008)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg

from read_model.connecting.pool import Connection

State = Literal["active", "building", "paused", "standby", "dropping"]

PROJECTED: frozenset[State] = frozenset({"active", "building", "standby"})  # the states in which rows are written
BUILT: frozenset[State] = frozenset({"building", "paused"})

LIST = """
SELECT name, state, max_rate, CASE WHEN held_until > now() THEN holds END AS holds,
       verified, created_at, verified_at, promoted_at, demoted_at
FROM ops.generations ORDER BY length(name), name
"""
SET_STATE = "UPDATE ops.generations SET state = $2 WHERE name = $1"
HOLD = """
UPDATE ops.generations SET holds = $2::jsonb, held_until = now() + make_interval(secs => $3) WHERE name = $1
"""
RELEASE = "UPDATE ops.generations SET holds = NULL, held_until = NULL WHERE name = $1"
VERIFIED = "UPDATE ops.generations SET verified = $2::jsonb, verified_at = now() WHERE name = $1"
NOTE = "INSERT INTO ops.journal (actor, action, detail) VALUES ($1, $2, $3::jsonb)"
POSITIONS = "SELECT partition, next_offset FROM {generation}.checkpoints WHERE topic = $1 ORDER BY partition"


@dataclass(frozen=True)
class Generation:
    """One generation in the register.

    `max_rate`: events a second, of all projectors together. `holds`: by partition, the offset at which projectors must
    wait; a partition that is not named is not held. `verified`: by partition, the offsets at which it was equal to the
    active generation.
    """

    name: str
    state: State
    max_rate: int | None = None
    holds: Mapping[int, int] = field(default_factory=dict)
    verified: Mapping[int, int] | None = None
    dates: Mapping[str, Any] = field(default_factory=dict)  # created, verified, promoted, demoted: moments or None


def projector_name(generation: str) -> str:
    """Returns the application name of a projector's database sessions for one generation (pg_stat_activity)."""
    return f"footfall-projector {generation}"


async def list_generations(connection: Connection | asyncpg.Pool) -> list[Generation]:
    """Returns all generations, oldest first."""
    return [
        Generation(
            row["name"],
            row["state"],
            row["max_rate"],
            _offsets(row["holds"]) or {},
            _offsets(row["verified"]),
            {name.removesuffix("_at"): row[name] for name in row.keys() if name.endswith("_at")},  # noqa: SIM118
        )
        for row in await connection.fetch(LIST)
    ]


async def positions(connection: Connection, generation: str, topic: str) -> dict[int, int]:
    """Returns the next offset of each partition that has a checkpoint."""
    rows = await connection.fetch(POSITIONS.format(generation=generation), topic)
    return {row["partition"]: row["next_offset"] for row in rows}


async def set_state(connection: Connection, name: str, state: State) -> None:
    """Changes the state of a generation."""
    await connection.execute(SET_STATE, name, state)


async def hold(connection: Connection, name: str, at: Mapping[int, int], seconds: float) -> None:
    """Holds a generation's partitions at these offsets until `release`, or for `seconds` at most."""
    await connection.execute(HOLD, name, json.dumps(at), seconds)


async def release(connection: Connection, name: str) -> None:
    """Ends a hold before its time."""
    await connection.execute(RELEASE, name)


async def set_verified(connection: Connection, name: str, at: Mapping[int, int]) -> None:
    """Stores that the generation was equal to the active generation at these offsets."""
    await connection.execute(VERIFIED, name, json.dumps(at))


async def write_journal(connection: Connection, actor: str, action: str, detail: Mapping[str, Any]) -> None:
    """Records an operator's action in the journal, in the transaction of the action."""
    await connection.execute(NOTE, actor, action, json.dumps(detail))


def _offsets(stored: str | None) -> dict[int, int] | None:
    return None if stored is None else {int(partition): offset for partition, offset in json.loads(stored).items()}
