"""A dataset of BigQuery as a target: a table of events, and the positions beside them in the same transaction."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
import uuid_utils

from projector.writing.failure import OutsideError
from sinks.settings import SinkSettings
from sinks.target import Document, DocumentRefusedError, Gone, Identity, TargetRefusesError, TooMuchError
from sinks.targets.bigquery import statements
from sinks.targets.bigquery.rest_api import RestApi
from sinks.targets.bigquery.tokens import Tokens

FORMAT = 1
MAX_STATEMENT = 900_000  # characters; BigQuery takes a million
EMULATOR = "http://"  # asks for no token


class BigQueryDataset:
    """One dataset. One transaction writes it at a time: BigQuery would refuse the others."""

    lanes = 1
    one_only = True

    def __init__(self, settings: SinkSettings) -> None:
        project, _, _ = settings.sink_bigquery_dataset.partition(".")
        url = settings.sink_bigquery_url
        tokens = None if url.startswith(EMULATOR) else Tokens(settings.sink_bigquery_key_file)
        self._dataset = settings.sink_bigquery_dataset
        self._api = RestApi(url, project, tokens)

    async def open(self) -> UUID:
        """Makes the tables if they are missing, and returns the id that was given to them then."""
        for statement in statements.create(self._dataset):
            await self._api.query(statement)
        rows = await self._api.query(f"SELECT target, format FROM `{self._dataset}.footfall_sink`")
        if not rows:
            await self._api.query(statements.turn(self._dataset))
            made = str(uuid_utils.uuid7())
            await self._api.query(
                f"INSERT INTO `{self._dataset}.footfall_sink` (target, format) VALUES (@target, {FORMAT})", target=made
            )
            return UUID(made)
        if len(rows) > 1 or rows[0][1] != str(FORMAT):
            raise TargetRefusesError(f"The dataset is not one of format {FORMAT}, which this release writes.")
        return UUID(rows[0][0])

    async def close(self) -> None:
        """Ends the connections."""
        await self._api.close()

    async def positions(self) -> Mapping[int, int]:
        """Returns the next offset of each partition."""
        rows = await self._api.query(f"SELECT kafka_partition, next_offset FROM `{self._dataset}.positions`")
        return {int(partition or 0): int(offset or 0) for partition, offset in rows}

    async def write(self, documents: Sequence[Document], positions: Mapping[int, int]) -> set[Identity]:
        """Stores documents and positions in one transaction."""
        if not documents and not positions:
            return set()
        statement = statements.write(self._dataset, documents, positions)
        if len(statement) > MAX_STATEMENT:
            raise TooMuchError(f"A statement of {len(statement)} characters is more than BigQuery takes.")
        known = await self._known(documents)
        await self._api.query(statement, blames=True)
        return known

    async def _known(self, documents: Sequence[Document]) -> set[Identity]:
        """Returns which of the documents are stored. Nobody else writes, so they stay what they are."""
        if not documents:
            return set()
        ids = msgspec.json.encode([str(document.event_id) for document in documents]).decode()
        stored = f"SELECT tenant_id, event_id FROM `{self._dataset}.events`"
        rows = await self._api.query(f"{stored} WHERE event_id IN UNNEST(JSON_VALUE_ARRAY(@ids))", ids=ids)
        found = {(tenant or "", UUID(event_id)) for tenant, event_id in rows}
        return {document.identity for document in documents} & found

    async def erase(self, gone: Sequence[Gone]) -> None:
        """Deletes users."""
        rows = [
            {"tenant_id": each.tenant_id, "user_id": user, "kafka_partition": each.partition, "before": each.before}
            for each in gone
            for user in each.users
        ]
        await self._api.query(statements.erase(self._dataset), gone=msgspec.json.encode(rows).decode())

    async def users(self, tenant_id: str) -> set[str]:
        """Returns the names of all users of a tenant."""
        statement = f"SELECT DISTINCT user_id FROM `{self._dataset}.events` WHERE tenant_id = @tenant"
        return {name or "" for (name,) in await self._api.query(statement, tenant=tenant_id)}

    async def known_good_fails(self) -> OutsideError | None:
        """Stores a stored event under an id of its own, and takes it back."""
        if not await self._api.query(f"SELECT 1 FROM `{self._dataset}.events` LIMIT 1"):
            raise TargetRefusesError("BigQuery refuses an event, and there is none yet to compare it with.")
        try:
            await self._api.query(statements.try_again(self._dataset), blames=True)
        except DocumentRefusedError as error:
            return error
        return None
