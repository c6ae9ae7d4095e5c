"""The register of generations: which there are, what each is for, and where each stands (docs/decisions/0008)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy | asyncpg.Connection
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
    """One generation as the register has it.

    `max_rate`: events a second over all projectors. `holds`: partition to the offset beyond which no projector goes
    now; a partition that is not named is not held. `verified`: the offsets at which it was found equal to the active.
    """

    name: str
    state: State
    max_rate: int | None = None
    holds: Mapping[int, int] = field(default_factory=dict)
    verified: Mapping[int, int] | None = None
    dates: Mapping[str, Any] = field(default_factory=dict)  # created, verified, promoted, demoted: moments or None


def projector_name(generation: str) -> str:
    """What a projector's database sessions of one generation are called, in pg_stat_activity too."""
    return f"footfall-projector {generation}"


async def list_generations(connection: Connection | asyncpg.Pool) -> list[Generation]:
    """Every generation, oldest first."""
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
    """The next offset of each partition that has a checkpoint."""
    rows = await connection.fetch(POSITIONS.format(generation=generation), topic)
    return {row["partition"]: row["next_offset"] for row in rows}


async def set_state(connection: Connection, name: str, state: State) -> None:
    """Says what the generation is for from now on."""
    await connection.execute(SET_STATE, name, state)


async def hold(connection: Connection, name: str, at: Mapping[int, int], seconds: float) -> None:
    """Lets no projector go beyond these offsets, until `release` or so many seconds from now."""
    await connection.execute(HOLD, name, json.dumps(at), seconds)


async def release(connection: Connection, name: str) -> None:
    """Ends a hold."""
    await connection.execute(RELEASE, name)


async def set_verified(connection: Connection, name: str, at: Mapping[int, int]) -> None:
    """Writes down that it was found equal to the active generation at these offsets."""
    await connection.execute(VERIFIED, name, json.dumps(at))


async def note(connection: Connection, actor: str, action: str, detail: Mapping[str, Any]) -> None:
    """Writes into the journal what an operator does, in the transaction that does it."""
    await connection.execute(NOTE, actor, action, json.dumps(detail))


def _offsets(stored: str | None) -> dict[int, int] | None:
    return None if stored is None else {int(partition): offset for partition, offset in json.loads(stored).items()}
