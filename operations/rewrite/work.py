"""One operator at work on a rewrite: the database as its owner, Kafka's topics, and the erased users of the log."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import asyncpg
import msgspec

from contracts.erasure import SealedErasure, erasure_of, sealed_erasure_of
from contracts.sealed.events import stub_name
from contracts.types import Catalogue
from operations.audit.deed import by_connection
from operations.rewrite.copying import Ends, Substitute
from operations.rewrite.reading import Reader
from operations.rewrite.refusal import RefusedError
from operations.rewrite.register import Rewrite, unfinished
from operations.rewrite.substitutes import NOBODY_SEALED, SealedErasures, Substitutes
from operations.rewrite.topics import Topics, topics
from operations.settings import RewriteSettings
from projector.privacy.erased_users import User, product_fields
from projector.sealed.register import pseudonyms_of
from read_model.connecting import operators_lock
from read_model.connecting.pool import connect
from read_model.pseudonyms import pseudonym_key

OnProgress = Callable[[str, int, int], None]  # what is done, how many offsets of it, of how many

TELL_EVERY = 10_000  # records

NO_REWRITE = "No rewrite is under way. Begin with: footfall privacy rewrite copy"


class SealedMarkers(msgspec.Struct):
    """The markers of one erasure in the sealed log: the offset of each, by partition."""

    erasure: SealedErasure
    until: dict[int, int] = msgspec.field(default_factory=dict)

    @property
    def stub(self) -> str:
        """A user id that markers of no subject delete, as the projector reads them without any key."""
        return stub_name(str(self.erasure.erasure_id))


class Marked(msgspec.Struct, frozen=True):
    """The erased users that a rewrite covers: the offset of the last marker of each, by partition."""

    until: dict[User, dict[int, int]]
    markers: int
    sealed: SealedErasures = NOBODY_SEALED

    @property
    def users(self) -> int:
        """How many users are erased. Who was erased before and after the log was sealed counts twice."""
        return len(self.until) + len(self.sealed.until)


class Work:
    """What the steps of a rewrite need."""

    def __init__(
        self,
        settings: RewriteSettings,
        catalogue: Catalogue,
        connection: asyncpg.Connection,
        kafka: Topics,
        actor: str,
        on_progress: OnProgress,
    ) -> None:
        self.settings, self.connection, self.topics, self.actor = settings, connection, kafka, actor
        self.options = settings.client_options()
        self.reader, self.ends = Reader(self.options), Ends()
        self.write_audit = by_connection(connection)
        self.on_progress = on_progress
        self._products = product_fields(catalogue)

    async def rewrite(self) -> Rewrite:
        """Returns the rewrite that is under way. Raises RefusedError if there is none, or it is of other topics."""
        found = await unfinished(self.connection)
        if found is None:
            raise RefusedError(NO_REWRITE)
        if self.settings.kafka_topic not in (found.topic, found.new_topic):
            raise RefusedError(
                f"The rewrite that is under way is of {found.topic}, and KAFKA_TOPIC is {self.settings.kafka_topic}."
            )
        return found

    async def marked(self, topic: str, covered: dict[int, int]) -> Marked:
        """Reads which users the log erases before these offsets."""
        until: dict[User, dict[int, int]] = {}
        sealed: dict[UUID, SealedMarkers] = {}
        passed = markers = 0
        total = sum(covered.values())
        for partition, end in covered.items():
            async for record in self.reader.records(topic, partition, 0, end):
                passed += 1
                if passed % TELL_EVERY == 0:
                    self.on_progress("records searched for markers", passed, total)
                erasure = erasure_of(record.value)
                if erasure is not None:
                    markers += 1
                    until.setdefault((erasure.tenant_id, erasure.user_id), {})[partition] = record.offset
                elif (sealed_erasure := sealed_erasure_of(record.value)) is not None:
                    markers += 1
                    of_one = sealed.setdefault(sealed_erasure[0].erasure_id, SealedMarkers(sealed_erasure[0]))
                    of_one.until[partition] = record.offset
        return Marked(until, markers, await self._sealed(sealed) if sealed else NOBODY_SEALED)

    async def _sealed(self, found: Mapping[UUID, SealedMarkers]) -> SealedErasures:
        """Learns by which pseudonyms the users of sealed markers are known. Raises RefusedError if they are not yet."""
        known = await pseudonyms_of(self.connection, list(found))
        waiting = found.keys() - {erasure_id for erasure_id, _ in known}
        if waiting:
            raise RefusedError(
                f"The log has {len(waiting)} erasures that no projector has applied, and only a projector can tell whom"
                " they are of. Let one run; then try again."
            )
        until: dict[bytes, dict[int, int]] = {}
        names: dict[bytes, str] = {}
        for erasure_id, pseudonym in sorted(known, key=lambda one: max(found[one[0]].until.values())):
            markers = found[erasure_id]
            last = until.setdefault(pseudonym, {})
            for partition, offset in markers.until.items():
                last[partition] = max(offset, last.get(partition, -1))
            by_subject = bool(markers.erasure.subject_ids) or names.get(pseudonym) == stub_name(pseudonym.hex())
            names[pseudonym] = stub_name(pseudonym.hex()) if by_subject else markers.stub
        return SealedErasures(await pseudonym_key(self.connection), until, names)

    def substitutes(self, secret: bytes, marked: Marked, *, keeps_counts: bool) -> Substitutes:
        """Returns what makes the copies."""
        return Substitutes(secret, marked.until, self._products, keeps_counts=keeps_counts, sealed=marked.sealed)

    async def copies(self, rewrite: Rewrite) -> dict[str, Substitute]:
        """Returns, by old topic, what makes the copies of a rewrite that is under way."""
        marked = await self.marked(rewrite.topic, rewrite.covered)
        made = self.substitutes(rewrite.secret, marked, keeps_counts=rewrite.keeps_counts)
        return {rewrite.topic: made.event, rewrite.dead_letters: made.letter}


@asynccontextmanager
async def working(
    settings: RewriteSettings, catalogue: Catalogue, actor: str, on_progress: OnProgress
) -> AsyncIterator[Work]:
    """Yields an operator that holds the operators' lock. Raises RefusedError if another holds it."""
    async with AsyncExitStack() as ending:
        connection, guard = await _connected(settings, ending), await _connected(settings, ending)
        try:
            await ending.enter_async_context(operators_lock.exclusive(guard))
        except operators_lock.HeldError as error:
            raise RefusedError(str(error)) from None
        kafka = await ending.enter_async_context(topics(settings.client_options()))
        yield Work(settings, catalogue, connection, kafka, actor, on_progress)


async def _connected(settings: RewriteSettings, ending: AsyncExitStack) -> asyncpg.Connection:
    connection = await connect(settings.database_url.get_secret_value(), "footfall-rewrite")
    ending.push_async_callback(connection.close)
    return connection
