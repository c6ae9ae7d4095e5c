"""`footfall archive restore`: a generation from the archive, which projectors continue from the topic."""

import asyncio
from collections.abc import Mapping

import msgspec

from operations.archive.files.manifest import checked_manifest
from operations.archive.files.reading import Records
from operations.archive.files.stores import Store
from operations.archive.filling import Filling
from operations.archive.known_ends import check_end
from operations.archive.running import looking
from operations.archive.seam import Seam, check_spans, prove
from operations.rebuild.lifecycle import start
from operations.rebuild.operator import Operator, as_deed
from operations.refusal import RefusedError
from operations.settings import ArchiveSettings
from read_model.generations.register import BUILT, Generation, set_state, write_journal

# What lies between the last archived record and the seam are offsets without a record.
SKIP_EMPTY_END = """
UPDATE {generation}.checkpoints SET next_offset = $3, epoch = epoch + 1
WHERE topic = $1 AND partition = $2 AND next_offset < $3
"""


class Restored(msgspec.Struct, frozen=True, rename="camel"):
    """A generation that has all that the archive has. `seams`: where the topic goes on."""

    generation: str
    records: int
    seams: list[Seam]


def _told(found: Restored) -> str:
    return f"{found.generation}, {found.records} records"


@as_deed("archive restore", _told)
async def restore(
    operator: Operator, settings: ArchiveSettings, store: Store, filling: Filling, max_rate: int | None = None
) -> Restored:
    """Fills a build from the archive, proves the seam, and gives the build to the projectors.

    The generation stays paused until then, so no projector touches it. After a kill, the same command goes on.

    Args:
        operator: The operator at work.
        settings: Name the topic.
        store: The archive.
        filling: What projects the records.
        max_rate: Events a second; None: no cap. Projectors keep it afterwards.

    Raises:
        ArchiveError: The archive is not whole, or not the one that the audit log knows; the seam is not proven; or a
            partition stopped.
        RefusedError: Projectors are building a generation.
    """
    manifest = await asyncio.to_thread(checked_manifest, store)
    await check_end(operator.connection, manifest, store.place)
    records = Records(store, manifest)
    try:
        async with looking(settings) as log:
            seams = await prove(records, log, store.place)
            building = await _paused_build(operator, {p: begin for p, (begin, _) in manifest.spans.items()}, max_rate)
            await filling.fill(building, records)
            check_spans(manifest.spans, await log.spans())  # the topic may have forgotten more meanwhile
    finally:
        records.close()
    await _give_to_projectors(operator, building, seams)
    return Restored(building.name, sum(entry.count for entry in manifest.current), seams)


async def _paused_build(operator: Operator, begins: Mapping[int, int], max_rate: int | None) -> Generation:
    found = await operator.find(*BUILT)
    if found is None:
        return await start(operator, max_rate, archived=begins)
    if found.state == "building":
        raise RefusedError(
            f"Projectors are building {found.name}. To go on from the archive: footfall rebuild pause, and again. To "
            "begin anew: footfall rebuild cancel"
        )
    return found


async def _give_to_projectors(operator: Operator, building: Generation, seams: list[Seam]) -> None:
    connection, at = operator.connection, {seam.partition: seam.at for seam in seams}
    async with connection.transaction():
        for partition, offset in at.items():
            await connection.execute(SKIP_EMPTY_END.format(generation=building.name), operator.topic, partition, offset)
        await set_state(connection, building.name, "building")
        await write_journal(connection, operator.name, "archive restore", {"generation": building.name, "seams": at})
