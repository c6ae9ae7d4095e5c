"""The register of rewrites in PostgreSQL: `ops.log_rewrites`, which only the owner reads."""

import json
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import msgspec

from read_model.connecting.pool import Connection

State = Literal["copying", "switched", "finished"]

UNFINISHED = """
SELECT number, topic, new_topic, dead_letters, new_dead_letters, topic_id, covered::text, configs::text,
       compared::text, keeps_counts, secret, state
FROM ops.log_rewrites WHERE state <> 'finished'
"""
NEXT = "SELECT coalesce(max(number), 0) + 1 FROM ops.log_rewrites"
INSERT = """
INSERT INTO ops.log_rewrites (number, topic, new_topic, dead_letters, new_dead_letters, topic_id, covered, configs,
                              keeps_counts, secret)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10)
"""
COMPARED = "UPDATE ops.log_rewrites SET compared = $2::jsonb WHERE number = $1"


class Rewrite(msgspec.Struct, frozen=True):
    """A rewrite that is not finished. `dead_letters` empty: there is no such topic.

    `covered`: by partition, the end of the log when it began. `configs`: by topic, what it was configured with.
    `compared`: by topic and partition, how far old and new were compared.
    """

    number: int
    topic: str
    new_topic: str
    dead_letters: str
    new_dead_letters: str
    topic_id: UUID
    covered: dict[int, int]
    configs: dict[str, dict[str, str]]
    compared: dict[str, dict[int, int]]
    keeps_counts: bool
    secret: bytes
    state: State

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each old topic and its new one, the events first."""
        both = [(self.topic, self.new_topic), (self.dead_letters, self.new_dead_letters)]
        return [pair for pair in both if pair[0]]


async def unfinished(connection: Connection) -> Rewrite | None:
    """Returns the rewrite that is not finished, if any."""
    row = await connection.fetchrow(UNFINISHED)
    if row is None:
        return None
    told: dict[str, Any] = {**row}
    for name in ("covered", "configs", "compared"):
        told[name] = json.loads(told[name])
    return msgspec.convert(told, Rewrite, strict=False)


async def insert(connection: Connection, new: Rewrite) -> None:
    """Registers a rewrite, in state `copying`."""
    named = (new.number, new.topic, new.new_topic, new.dead_letters, new.new_dead_letters, new.topic_id)
    facts = json.dumps(new.covered), json.dumps(new.configs), new.keeps_counts, new.secret
    await connection.execute(INSERT, *named, *facts)


async def next_number(connection: Connection) -> int:
    """Returns the number that the next rewrite gets."""
    number: int = await connection.fetchval(NEXT)
    return number


async def set_compared(connection: Connection, rewrite: Rewrite, topic: str, offsets: Mapping[int, int]) -> Rewrite:
    """Stores how far a topic and its copy were compared and equal. Returns the rewrite as it is then."""
    told = {**rewrite.compared, topic: {**rewrite.compared.get(topic, {}), **offsets}}
    await connection.execute(COMPARED, rewrite.number, json.dumps(told))
    return msgspec.structs.replace(rewrite, compared=told)
