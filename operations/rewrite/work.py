"""One operator at work on a rewrite: the database as its owner, Kafka's topics, and the erased users of the log."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from contracts.types import Catalogue
from operations.audit.deed import by_connection
from operations.refusal import RefusedError
from operations.rewrite.copying import Ends, Substitute
from operations.rewrite.markers import Marked, Markers
from operations.rewrite.reading import Reader
from operations.rewrite.register import Rewrite, unfinished
from operations.rewrite.substitutes import Substitutes
from operations.rewrite.topics import Topics, topics
from operations.settings import RewriteSettings
from projector.privacy.erased_users import product_fields
from read_model.connecting import operators_lock
from read_model.connecting.pool import connect

OnProgress = Callable[[str, int, int], None]  # what is done, how many offsets of it, of how many

TELL_EVERY = 10_000  # records

NO_REWRITE = "No rewrite is under way. Begin with: footfall privacy rewrite copy"


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

    async def check_rights(self, step: str, rewrite: Rewrite) -> None:
        """Raises RefusedError if Kafka does not let this user do the step. See `check_rights`."""
        sources, targets = zip(*rewrite.pairs, strict=True)
        await self.topics.check_rights(step, sources, targets)

    async def marked(self, topic: str, covered: dict[int, int]) -> Marked:
        """Reads which users the log erases before these offsets."""
        found, passed, total = Markers(), 0, sum(covered.values())
        for partition, end in covered.items():
            async for record in self.reader.records(topic, partition, 0, end):
                passed += 1
                if passed % TELL_EVERY == 0:
                    self.on_progress("records searched for markers", passed, total)
                found.add(record)
        return await found.marked(self.connection)

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
