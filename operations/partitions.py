"""Stops the projection of one partition for a while, and starts it again: the work behind the console's Projectors."""

from operations.rebuild.operator import Operator, as_deed
from operations.refusal import RefusedError
from read_model.generations.register import hold, positions, release, write_journal

LONGEST = 24 * 3600.0  # seconds: what somebody forgets goes on by itself
FENCE = "UPDATE {generation}.checkpoints SET epoch = epoch + 1 WHERE topic = $1 AND partition = $2"


def _stopped(partition: int, seconds: float) -> str:
    return f"partition {partition} for {seconds:.0f} s"


def _restarted(partition: int) -> str:
    return f"partition {partition}"


@as_deed("partition stop", str, _stopped)
async def stop_partition(operator: Operator, /, partition: int, seconds: float) -> str:
    """Holds a partition of the active generation where it is; nothing is lost, and the log is read on afterwards.

    Args:
        operator: The operator at work, who holds the operators' lock.
        partition: Which.
        seconds: For how long at most, up to `LONGEST`. A partition that is held already then ends with this one.

    Raises:
        RefusedError: There is no such partition, or a verification holds the generation.
    """
    active = await operator.active()
    stands = await positions(operator.connection, active.name, operator.topic)
    if partition not in stands:
        raise RefusedError(f"{active.name} has no partition {partition}.")
    at = {**active.holds, partition: stands[partition]}
    async with operator.connection.transaction():
        await hold(operator.connection, active.name, at, min(seconds, LONGEST))
        detail = {"generation": active.name, "partition": partition, "at": stands[partition], "seconds": seconds}
        await write_journal(operator.connection, operator.name, "partition stop", detail)
    return f"{active.name}, partition {partition}, at offset {stands[partition]}"


@as_deed("partition restart", str, _restarted)
async def restart_partition(operator: Operator, /, partition: int) -> str:
    """Ends the hold of a partition, and lets its owner load its position again, whatever it stopped for.

    Raises:
        RefusedError: There is no such partition.
    """
    active = await operator.active()
    async with operator.connection.transaction():
        done = await operator.connection.execute(FENCE.format(generation=active.name), operator.topic, partition)
        if done == "UPDATE 0":
            raise RefusedError(f"{active.name} has no partition {partition}.")
        left = {number: offset for number, offset in active.holds.items() if number != partition}
        if left:
            await hold(operator.connection, active.name, left, LONGEST)
        elif active.holds:
            await release(operator.connection, active.name)
        detail = {"generation": active.name, "partition": partition}
        await write_journal(operator.connection, operator.name, "partition restart", detail)
    return f"{active.name}, partition {partition}"
