"""Starts, pauses, resumes, cancels and drops generations (docs/rebuild.md)."""

import asyncio
from collections.abc import Mapping

import asyncpg

from operations.rebuild.operator import Operator, as_deed, its_name
from operations.rebuild.origin import first_positions, missing_events_refusal
from operations.refusal import RefusedError
from read_model.connecting.pool import Connection
from read_model.generations.register import (
    BUILT,
    Generation,
    State,
    positions,
    projector_name,
    set_state,
    write_journal,
)
from read_model.generations.schema import GenerationInUseError, NotCopiedError, create_like, drop, tables_of

LEAVE_WITHIN = 15.0  # seconds for the projectors to end their sessions in a generation that is being dropped
POLL = 0.1  # seconds

NEXT_NAME = "SELECT 'read_g' || nextval('ops.generation_number')"
REGISTER = "INSERT INTO ops.generations (name, state, max_rate, created_by) VALUES ($1, $4, $2, $3)"
FIRST_CHECKPOINTS = """
INSERT INTO {generation}.checkpoints (topic, partition, next_offset, epoch, owner, topic_id)
SELECT $1, partition, next_offset, 0, '', $4 FROM unnest($2::int[], $3::bigint[]) AS origin(partition, next_offset)
"""
# Topics that are not the log, beside one that was rewritten: projectors must not read them (docs/decisions/0043).
COPY_BARS = """
INSERT INTO {new}.checkpoints SELECT * FROM {old}.checkpoints
WHERE topic <> $1 AND next_offset = 0
  AND topic IN (SELECT topic FROM ops.log_rewrites UNION SELECT new_topic FROM ops.log_rewrites)
"""
# Records that operators discarded stay discarded: the build skips them instead of parking them, and the later records
# of their keys, again.
COPY_DISCARDED = "INSERT INTO {new}.dead_letters SELECT * FROM {old}.dead_letters WHERE state = 'discarded'"
SET_RATE = "UPDATE ops.generations SET max_rate = $2 WHERE name = $1"
FORGET = "DELETE FROM ops.generations WHERE name = $1"
SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1
"""


@as_deed("rebuild start", its_name)
async def start(
    operator: Operator,
    max_rate: int | None = None,
    *,
    forget_discards: bool = False,
    accept_missing: bool = False,
    archived: Mapping[int, int] | None = None,
) -> Generation:
    """Makes an empty generation like the active one. Running projectors begin to fill it from offset 0.

    Args:
        operator: The operator at work.
        max_rate: Events a second, over all projectors; None: no cap.
        forget_discards: Tries records again that operators discarded. By default the build skips them.
        accept_missing: Begins at the topic's oldest records if those from offset 0 on are gone. The journal names the
            missing offsets.
        archived: By partition, where an archive begins. The generation is then paused, for the archive to fill it.

    Raises:
        RefusedError: Another generation is being built or kept as standby, or the topic does not begin at offset 0.
    """
    if await operator.find("dropping"):
        await _finish_dropping(operator)
    for state, remedy in (("building", "cancel"), ("paused", "cancel"), ("standby", "drop")):
        found = await operator.find(state)  # type: ignore[arg-type]  # the states are spelt out above
        if found is not None:
            raise RefusedError(f"{found.name} is {state}. To remove it first: footfall rebuild {remedy}")
    active = await operator.active()
    beginnings = await operator.beginnings() | dict(archived or {})
    missing = {partition: first for partition, first in beginnings.items() if first > 0}
    if missing and not accept_missing:
        raise RefusedError(missing_events_refusal(operator.topic, missing))
    other_history = await operator.has_other_history(active.name)
    ends = await _ends_of_log(operator, active, other_history=other_history)
    connection = operator.connection
    first_state: State = "building" if archived is None else "paused"
    try:
        async with connection.transaction():
            name: str = await connection.fetchval(NEXT_NAME)
            tables = await create_like(connection, active.name, name)
            topic_id = (await operator.histories.metadata()).topic_id
            begin = first_positions(ends, beginnings)
            await connection.execute(FIRST_CHECKPOINTS.format(generation=name), operator.topic, *begin, topic_id)
            await connection.execute(COPY_BARS.format(old=active.name, new=name), operator.topic)
            if not forget_discards and not other_history:
                await connection.execute(COPY_DISCARDED.format(old=active.name, new=name))
            await connection.execute(REGISTER, name, max_rate, operator.name, first_state)
            detail = {"generation": name, "like": active.name, "tables": len(tables), "max_rate": max_rate}
            detail |= {"forget_discards": forget_discards, "missing": missing}
            await write_journal(connection, operator.name, "rebuild start", detail | {"events": sum(ends.values())})
    except NotCopiedError as error:
        raise RefusedError(f"{error}. A rebuild cannot copy that yet.") from error
    return await operator.under_construction()


async def _ends_of_log(operator: Operator, active: Generation, *, other_history: bool) -> dict[int, int]:
    """Returns the ends of the log. Raises RefusedError if a checkpoint of the active generation is beyond them.

    `other_history`: the topic is another one than the active generation's, so its checkpoints say nothing.
    """
    # Checkpoints first: both move on meanwhile, and a checkpoint read later could pass the end.
    stands = await positions(operator.connection, active.name, operator.topic)
    ends = await operator.ends()
    for partition, offset in stands.items():
        if ends.get(partition, 0) < offset and not other_history:
            raise RefusedError(
                f"Partition {partition} of {operator.topic} ends at {ends.get(partition, 0)}, but {active.name} stands "
                f"at {offset}: this is not the topic that {active.name} was built from."
            )
    return ends


@as_deed("rebuild pause", its_name)
async def pause(operator: Operator) -> Generation:
    """Makes the projectors stop working on the build. Its rows stay."""
    building = await operator.under_construction()
    if building.state == "paused":
        raise RefusedError(f"{building.name} is paused already.")
    await _change(operator, building.name, "paused", "rebuild pause")
    return building


@as_deed("rebuild resume", its_name)
async def resume(operator: Operator, max_rate: int | None = None) -> Generation:
    """Continues the build from its checkpoints, or changes the cap of a build that runs.

    Args:
        operator: The operator at work.
        max_rate: A new cap in events a second; 0: no cap; None: as before.
    """
    building = await operator.under_construction()
    if max_rate is not None:
        await operator.connection.execute(SET_RATE, building.name, max_rate or None)
    await _change(operator, building.name, "building", "rebuild resume")
    return building


async def _change(operator: Operator, name: str, state: State, action: str) -> None:
    async with operator.connection.transaction():
        await set_state(operator.connection, name, state)
        await write_journal(operator.connection, operator.name, action, {"generation": name})


@as_deed("rebuild cancel", its_name)
async def cancel(operator: Operator) -> Generation:
    """Cancels the build and drops its tables."""
    return await _drop_when_left(operator, await operator.find(*BUILT, "dropping"), "rebuild cancel", "being built")


@as_deed("rebuild drop", its_name)
async def drop_standby(operator: Operator) -> Generation:
    """Drops the generation that is kept for a rollback."""
    return await _drop_when_left(operator, await operator.find("standby", "dropping"), "rebuild drop", "kept")


async def _drop_when_left(operator: Operator, found: Generation | None, action: str, what: str) -> Generation:
    if found is None:
        raise RefusedError(f"No generation is {what}, so there is nothing to drop.")
    await _change(operator, found.name, "dropping", action)
    await _finish_dropping(operator)
    return found


async def _finish_dropping(operator: Operator) -> None:
    """Drops the generation in state `dropping`, also one that an interrupted command left in it."""
    connection = operator.connection
    found = await operator.find("dropping")
    if found is None:
        return
    await _wait_until_unused(connection, found.name)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await drop(connection, found.name)
            await connection.execute(FORGET, found.name)
            await write_journal(connection, operator.name, "rebuild dropped", {"generation": found.name})
    except asyncpg.LockNotAvailableError as error:
        raise RefusedError(f"Another session still uses {found.name}. Try again when it has ended.") from error
    except GenerationInUseError as error:
        raise RefusedError(f"{error}. Drop or change that first, then try again.") from error


async def _wait_until_unused(connection: Connection, name: str) -> None:
    """Waits until no projector has a session in the generation, for `LEAVE_WITHIN` at most.

    A frozen projector is not waited for: when it wakes, it finds the generation gone.
    """
    waited = 0.0
    while waited < LEAVE_WITHIN and await connection.fetchval(SESSIONS, projector_name(name)):
        await asyncio.sleep(POLL)
        waited += POLL


async def analyze(operator: Operator, name: str) -> None:
    """Runs ANALYZE on each table, so that the first queries get good plans."""
    for table in await tables_of(operator.connection, name):
        await operator.connection.execute(f"ANALYZE {name}.{table}")
