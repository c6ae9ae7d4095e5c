"""The steps of a rewrite: plan, copy, verify, abandon, finish. Each can be repeated after a kill at any moment.

The step between, `switch`, has a module of its own.
"""

import secrets
from collections import Counter
from collections.abc import Mapping

import msgspec

from operations.audit.deed import audited
from operations.refusal import RefusedError
from operations.rewrite.comparing import Compared, compared
from operations.rewrite.copying import Substitute, copying
from operations.rewrite.moving import BAR, UNBAR, forget_offsets
from operations.rewrite.register import Rewrite, insert, next_number, set_compared, unfinished
from operations.rewrite.work import Work
from projector.failpoints import reached
from read_model.generations.register import list_generations, write_journal
from read_model.topic_names import next_name

FINISH = "UPDATE ops.log_rewrites SET state = 'finished', secret = NULL, finished_at = now() WHERE number = $1"
FORGET = "DELETE FROM ops.log_rewrites WHERE number = $1"
SECRET_BYTES = 32


class Plan(msgspec.Struct, frozen=True):
    """What a rewrite would do. `replaced`: by topic and partition, how many records become what."""

    topic: str
    users: int
    markers: int
    records: Mapping[str, int]
    replaced: Mapping[str, Mapping[int, Mapping[str, int]]]


class Copied(msgspec.Struct, frozen=True):
    """How far the new topics are. `offsets`: by new topic and partition."""

    topic: str
    new_topic: str
    offsets: Mapping[str, Mapping[int, int]]


class Verified(msgspec.Struct, frozen=True):
    """What a comparison found: every record but the replaced ones has the same bytes at the same offset."""

    topic: str
    new_topic: str
    partitions: list[Compared]


async def plan(work: Work) -> Plan:
    """Reads the log, and says what a rewrite would do. Changes nothing."""
    topic = work.settings.kafka_topic
    await work.topics.check_rights("plan", [topic, work.settings.kafka_dlq_topic])
    covered = dict((await work.reader.reach(topic)).stable)
    marked = await work.marked(topic, covered)
    made = work.substitutes(b"", marked, keeps_counts=True)
    copies = {topic: made.event, await _dead_letters(work): made.letter}
    copies.pop("", None)
    replaced = {name: await _counted(work, name, copy) for name, copy in copies.items()}
    records = {name: sum(sum(kinds.values()) for kinds in found.values()) for name, found in replaced.items()}
    return Plan(topic, marked.users, marked.markers, records, replaced)


async def _counted(work: Work, topic: str, copy: Substitute) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for partition, end in (await work.reader.reach(topic)).stable.items():
        kinds = [copy(record).kind async for record in work.reader.records(topic, partition, 0, end)]
        found[partition] = dict(Counter(kinds))
    return found


async def copy(work: Work, *, keeps_counts: bool = True) -> Copied:
    """Copies what the new topics lack. Begins a rewrite if none is under way; else it goes on.

    Args:
        work: The operator at work.
        keeps_counts: Whether stubs keep the counts by hour, type and product when a generation is built anew.

    Raises:
        RefusedError: The new topics are there already and no rewrite of ours, or they have records that are no copies.
    """
    write, topic = work.write_audit, work.settings.kafka_topic
    async with audited(write, "privacy rewrite copy", actor=work.actor, target=topic, refusals=(RefusedError,)) as deed:
        rewrite = await unfinished(work.connection) or await _begun(work, keeps_counts=keeps_counts)
        rewrite = await work.rewrite()
        if rewrite.state != "copying":
            raise RefusedError(f"{rewrite.new_topic} is the log already. Next: footfall privacy rewrite finish")
        await work.check_rights("copy", rewrite)
        await make_topics(work, rewrite)
        offsets = await copy_rest(work, rewrite, await work.copies(rewrite))
        deed.target = f"{rewrite.topic} to {rewrite.new_topic}"
        return Copied(rewrite.topic, rewrite.new_topic, offsets)


async def copy_rest(work: Work, rewrite: Rewrite, copies: Mapping[str, Substitute]) -> dict[str, Mapping[int, int]]:
    """Copies what the new topics lack. Returns how far they are, by old topic and partition."""
    total = sum([sum((await work.reader.reach(source)).stable.values()) for source, _ in rewrite.pairs])
    done = sum([sum((await work.reader.reach(target)).end.values()) for _, target in rewrite.pairs])

    def progress(count: int) -> None:
        nonlocal done
        done += count
        work.on_progress("records copied", done, total)

    async with copying(work.options, work.ends, progress) as copier:
        return {source: await copier.copy(source, target, copies[source]) for source, target in rewrite.pairs}


async def _begun(work: Work, *, keeps_counts: bool) -> Rewrite:
    topic = work.settings.kafka_topic
    await work.topics.check_rights("begin", [topic, work.settings.kafka_dlq_topic])
    dead_letters = await _dead_letters(work)
    number = await next_number(work.connection)
    sources = [name for name in (topic, dead_letters) if name]
    new = {name: next_name(name, number) for name in sources}
    there = sorted([name for name in new.values() if await work.topics.has(name)])
    if there:
        raise RefusedError(f"There is a topic {there[0]} already, and no rewrite made it. Delete it, or rename it.")
    rewrite = Rewrite(
        number=number,
        topic=topic,
        new_topic=new[topic],
        dead_letters=dead_letters,
        new_dead_letters=new.get(dead_letters, ""),
        topic_id=await work.topics.topic_id(topic),
        covered=dict((await work.reader.reach(topic)).stable),
        configs={name: await work.topics.configs(name) for name in sources},
        compared={},
        keeps_counts=keeps_counts,
        secret=secrets.token_bytes(SECRET_BYTES),
        state="copying",
    )
    async with work.connection.transaction():
        await insert(work.connection, rewrite)
        for generation in await list_generations(work.connection):
            # A projector that reads the new topic too early finds a checkpoint of another history, and stops.
            partitions = list(rewrite.covered)
            await work.connection.execute(
                BAR.format(generation=generation.name), rewrite.new_topic, partitions, rewrite.topic_id
            )
        await write_journal(work.connection, work.actor, "privacy rewrite", {"topic": topic, "new": rewrite.new_topic})
    await reached("rewrite_registered")
    return rewrite


async def _dead_letters(work: Work) -> str:
    name = work.settings.kafka_dlq_topic
    return name if await work.topics.has(name) else ""


async def make_topics(work: Work, rewrite: Rewrite) -> None:
    """Makes the new topics that are missing."""
    for source, target in rewrite.pairs:
        await work.topics.create(target, await work.topics.partitions(source), rewrite.configs[source])


async def verify(work: Work) -> Verified:
    """Compares every record of the old topics, as far as they are copied, with the new ones.

    Raises:
        DifferentError: A copy is not what it must be.
    """
    rewrite = await work.rewrite()
    target = f"{rewrite.topic} to {rewrite.new_topic}"
    refusals = (RefusedError,)
    async with audited(work.write_audit, "privacy rewrite verify", actor=work.actor, target=target, refusals=refusals):
        await work.check_rights("verify", rewrite)
        return await verify_from(work, rewrite, await work.copies(rewrite), {})


async def verify_from(
    work: Work, rewrite: Rewrite, copies: Mapping[str, Substitute], begins: Mapping[str, Mapping[int, int]]
) -> Verified:
    """Compares from these offsets on, and registers how far. `begins`: by old topic and partition."""
    found: list[Compared] = []
    for source, target in rewrite.pairs:
        ends = (await work.reader.reach(target)).stable
        async for one in compared(work.reader, (source, target), begins.get(source, {}), ends, copies[source]):
            found.append(one)
            work.on_progress("records compared", one.end, sum(ends.values()))
            rewrite = await set_compared(work.connection, rewrite, source, {one.partition: one.end})
    return Verified(rewrite.topic, rewrite.new_topic, found)


async def abandon(work: Work, *, force: bool = False) -> Rewrite:
    """Gives a rewrite up before the switch: opens the old topics if they were closed, and deletes the new ones.

    Raises:
        RefusedError: It is switched; or, without `force`, the new topics have records that are no copies.
    """
    rewrite = await work.rewrite()
    async with audited(
        work.write_audit,
        "privacy rewrite abandon",
        actor=work.actor,
        target=rewrite.new_topic,
        refusals=(RefusedError,),
    ):
        if rewrite.state != "copying":
            raise RefusedError(f"{rewrite.new_topic} is the log already, and events were written to it since.")
        await work.check_rights("abandon", rewrite)
        await _refuse_if_written(work, rewrite, force=force)
        for source, target in rewrite.pairs:
            await work.topics.configure(source, rewrite.configs[source])
            await work.topics.delete(target)
        async with work.connection.transaction():
            for generation in await list_generations(work.connection):
                await work.connection.execute(UNBAR.format(generation=generation.name), rewrite.new_topic)
            await work.connection.execute(FORGET, rewrite.number)
    return rewrite


async def _refuse_if_written(work: Work, rewrite: Rewrite, *, force: bool) -> None:
    for source, target in rewrite.pairs:
        if force or not await work.topics.has(target):
            continue
        limits, ends = (await work.reader.reach(source)).end, (await work.reader.reach(target)).end
        beyond = [partition for partition, end in ends.items() if end > limits.get(partition, 0)]
        if beyond:
            raise RefusedError(
                f"Partition {beyond[0]} of {target} has records that {source} does not have: somebody wrote to it. "
                "Save them, for example with footfall replay; then: footfall privacy rewrite abandon --force"
            )


async def finish(work: Work) -> Rewrite:
    """Deletes the old topics, after the switch, and forgets how the stubs were named. This cannot be undone.

    Raises:
        RefusedError: It is not switched; or an old topic has records that the new one lacks.
    """
    rewrite = await work.rewrite()
    async with audited(
        work.write_audit, "privacy rewrite finish", actor=work.actor, target=rewrite.topic, refusals=(RefusedError,)
    ):
        if rewrite.state != "switched":
            raise RefusedError("The log is not switched yet. First: footfall privacy rewrite switch")
        await work.check_rights("finish", rewrite)
        for source, _ in rewrite.pairs:
            if await work.topics.has(source):
                await _refuse_if_more(work, rewrite, source)
                await work.topics.delete(source)
                await reached("rewrite_deleted")
        async with work.connection.transaction():
            await forget_offsets(work.connection, rewrite)
            await work.connection.execute(FINISH, rewrite.number)
    return rewrite


async def _refuse_if_more(work: Work, rewrite: Rewrite, source: str) -> None:
    ends = (await work.reader.reach(source)).end
    more = {p: end for p, end in ends.items() if end > rewrite.compared.get(source, {}).get(p, 0)}
    if more:
        raise RefusedError(
            f"{source} has records that were written after it was copied, in partition {min(more)}: did somebody open "
            "it again? It is not deleted. Save them, for example with footfall replay, before you delete it yourself."
        )
