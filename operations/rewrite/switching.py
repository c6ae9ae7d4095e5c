"""Makes the new topic the log: closes the old one, copies and compares the rest, and moves the rows."""

import time
from collections.abc import Mapping, Sequence

import asyncpg
import msgspec
from aiokafka.errors import KafkaError

from operations.audit.deed import audited
from operations.refusal import RefusedError
from operations.rewrite.comparing import DifferentError
from operations.rewrite.copying import Substitute
from operations.rewrite.moving import move, wait_until_projected, wait_until_published
from operations.rewrite.register import Rewrite
from operations.rewrite.steps import copy_rest, make_topics, verify_from
from operations.rewrite.work import Work
from projector.failpoints import reached

AGAIN = "Run footfall privacy rewrite switch again, or footfall privacy rewrite abandon."
CLOSED = (
    "The log is not switched ({reason}), and {source} could not be opened again ({error}): Kafka may still refuse its"
    f" records. {AGAIN}"
)
UNKNOWN = (
    "PostgreSQL did not say whether the log is switched ({error}). Until that is known Kafka refuses the records of"
    f" {{source}}. {AGAIN} Both say so if it is switched."
)


class StillClosedError(Exception):
    """The old topics stay closed: somebody has to repeat the step. The text is a sentence for the operator."""


class Switched(msgspec.Struct, frozen=True):
    """A finished switch. `closed_seconds`: for how long no topic took events, so far."""

    topic: str
    new_topic: str
    dead_letters: str
    new_dead_letters: str
    generations: list[str]
    closed_seconds: float


async def switch(work: Work, patience: float) -> Switched:
    """Makes the new topic the log. Afterwards every process gets its name as KAFKA_TOPIC.

    1. The old topic is closed: from then on Kafka refuses every record, so nobody is told 201 for an event that the
       new topic will not have.
    2. What is missing is copied, and what was not compared yet is compared.
    3. It waits until the generations have projected everything, and published their dead letters. Only then the
       dead-letter topic is closed and copied in the same way.
    4. One transaction moves the rows and checkpoints of every generation.

    Args:
        work: The operator at work.
        patience: Seconds to wait in step 3. If that is not enough, the old topics are opened again.

    Raises:
        RefusedError: A generation is behind, or a transaction of a producer is open.
        DifferentError: A copy is not what it must be.
        StillClosedError: The old topics are closed, and nobody could open them, or knows whether that is right.
    """
    rewrite = await work.rewrite()
    target = f"{rewrite.topic} to {rewrite.new_topic}"
    refusals = (RefusedError, DifferentError)
    async with audited(work.write_audit, "privacy rewrite switch", actor=work.actor, target=target, refusals=refusals):
        if rewrite.state != "copying":
            raise RefusedError(f"{rewrite.new_topic} is the log already. Next: footfall privacy rewrite finish")
        await work.check_rights("switch", rewrite)
        copies = await work.copies(rewrite)
        await make_topics(work, rewrite)
        await copy_rest(work, rewrite, copies)
        await verify_from(work, rewrite, copies, rewrite.compared)
        return await _switch_closed(work, await work.rewrite(), copies, patience)


async def _switch_closed(work: Work, rewrite: Rewrite, copies: Mapping[str, Substitute], patience: float) -> Switched:
    began = time.monotonic()
    events, *letters = rewrite.pairs
    try:
        rewrite = await _close_and_copy(work, rewrite, [events], copies)
        await wait_until_projected(work, rewrite, rewrite.compared[rewrite.topic], patience)
        if letters:  # a projector that finds this topic closed would give letters up
            await wait_until_published(work, rewrite, patience)
            rewrite = await _close_and_copy(work, rewrite, letters, copies)
    except BaseException as error:  # also when the operator interrupts it
        await _open_again(work, rewrite, error)
        raise
    # From here on the old topics stay closed, whatever happens: the transaction may be there although nobody was told.
    try:
        generations = await move(work, rewrite)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StillClosedError(UNKNOWN.format(source=rewrite.topic, error=_named(error))) from error
    await reached("rewrite_switched")
    names = (rewrite.topic, rewrite.new_topic, rewrite.dead_letters, rewrite.new_dead_letters)
    return Switched(*names, generations, time.monotonic() - began)


async def _open_again(work: Work, rewrite: Rewrite, reason: BaseException) -> None:
    """Lets producers write to the old topics again. Raises StillClosedError if Kafka does not do it."""
    for source, _ in rewrite.pairs:
        try:
            await work.topics.configure(source, rewrite.configs[source])
        except (KafkaError, OSError) as error:
            raise StillClosedError(CLOSED.format(source=source, reason=_named(reason), error=_named(error))) from reason


def _named(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip().rstrip(".")


async def _close_and_copy(
    work: Work, rewrite: Rewrite, pairs: Sequence[tuple[str, str]], copies: Mapping[str, Substitute]
) -> Rewrite:
    for source, _ in pairs:
        await work.topics.close(source, rewrite.configs[source])
    await reached("rewrite_closed")
    await copy_rest(work, rewrite, copies)
    await verify_from(work, rewrite, copies, rewrite.compared)
    rewrite = await work.rewrite()
    for source, target in pairs:
        await _refuse_unless_whole(work, rewrite, source)
        await work.topics.configure(target, rewrite.configs[source])
    return rewrite


async def _refuse_unless_whole(work: Work, rewrite: Rewrite, source: str) -> None:
    """Raises RefusedError unless everything in a closed topic is copied and compared."""
    reach = await work.reader.reach(source)
    if reach.stable != reach.end:
        raise RefusedError(
            f"A producer of {source} has a transaction open, so nobody knows whether its records count. Try again when "
            "it has ended."
        )
    if rewrite.compared.get(source, {}) != reach.end:
        raise RefusedError(f"{source} is not copied as far as it reaches. Try again.")
