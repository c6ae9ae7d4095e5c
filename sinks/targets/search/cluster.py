"""Elasticsearch or OpenSearch as a target, by their common HTTP API.

A document's `_id` is its event's id, and it is written with `create`, the only way into a data stream: one index of the
stream has it once. A stream that rolled over has older indices, which are asked for the ids first.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NoReturn
from uuid import UUID

import httpx
import msgspec
import uuid_utils

from projector.writing.failure import OutsideError
from sinks.settings import SinkSettings
from sinks.target import (
    Document,
    DocumentRefusedError,
    Gone,
    Identity,
    TargetAwayError,
    TargetGoneError,
    TargetRefusesError,
)
from sinks.targets.search.responses import CONFLICT, checked, checked_items, known_documents, streams_of, told, whole
from sinks.targets.search.templates import STREAM, stream_of, template

TIMEOUT = 30.0  # seconds; a batch has 60
ERASE_TIMEOUT = 55.0  # seconds
PAGE = 1_000  # users in one answer
NDJSON = {"Content-Type": "application/x-ndjson"}
GONE = (
    "{stream} is not the stream that it was: somebody deleted it or restored it, or SINK_URL leads to another cluster. "
    "The sink ends; started again, it writes everything that is missing."
)
Indices = Mapping[str, Sequence[str]]  # of each stream, the newest last
_encode = msgspec.json.Encoder().encode


class SearchCluster:
    """One cluster, and the streams of the tenants in it."""

    lanes = 3
    one_only = False

    def __init__(self, settings: SinkSettings) -> None:
        password = settings.sink_password.get_secret_value()
        # Streams that must be there, and the ids of the indices behind them when they were last looked at.
        self._seen: dict[str, Set[str]] = {}
        self._client = httpx.AsyncClient(
            base_url=settings.sink_url,
            auth=(settings.sink_user, password) if settings.sink_user else None,
            verify=True if settings.sink_ca_file is None else str(settings.sink_ca_file),
            timeout=TIMEOUT,
            trust_env=False,
        )

    async def open(self) -> UUID:
        """Makes the template and the default tenant's stream if they are missing; returns the id that they have."""
        server = told(await self._ask("GET", "/"))
        flat = "flat_object" if server.get("version", {}).get("distribution") == "opensearch" else "flattened"
        found = await self._identity()
        target = found or UUID(int=uuid_utils.uuid7().int)
        await self._ask("PUT", f"/_index_template/{STREAM}", _encode(template(flat, str(target))))
        if found is None:
            await self._ask("PUT", f"/_data_stream/{STREAM}", accept=(400,))  # 400: another sink was quicker
            target = await self._identity() or target
        self._seen[STREAM] = set()
        return target

    async def _identity(self, stream: str = STREAM) -> UUID | None:
        answer = await self._ask("GET", f"/{stream}/_mapping", accept=(404,))
        for index in told(answer).values():
            found = index.get("mappings", {}).get("_meta", {}).get("footfall_sink") if isinstance(index, dict) else None
            if found:
                return UUID(found)
        return None

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()

    async def positions(self) -> Mapping[int, int] | None:
        """Returns None: the streams keep none."""
        return None

    async def write(self, documents: Sequence[Document], positions: Mapping[int, int]) -> set[Identity]:
        """Creates the documents that are not there."""
        if not documents:
            return set()
        indices = await self._indices()
        known = await self._known(documents, {stream: each[:-1] for stream, each in indices.items()})
        new = [document for document in documents if document.identity not in known]
        return known | await self._created(new, indices)

    async def _created(self, documents: Sequence[Document], indices: Indices) -> set[Identity]:
        """Creates documents; returns those that their stream's newest index has already. `indices`: before."""
        if not documents:
            return set()
        lines = [line for document in documents for line in _lines(document)]
        answer = await self._ask("POST", "/_bulk", b"\n".join([*lines, b""]), headers=NDJSON)
        items = checked_items(answer, len(documents))
        for stream in {stream_of(document.tenant_id) for document in documents}:
            self._seen.setdefault(stream, set())
        pairs = list(zip(documents, items, strict=True))
        moved = [
            (document, item.index)
            for document, item in pairs
            if item.status != CONFLICT
            and item.index not in indices.get(stream_of(document.tenant_id), [item.index])[-1:]
        ]
        if moved:
            await self._remove_doubled(moved, indices)
        return {document.identity for document, item in pairs if item.status == CONFLICT}

    async def _remove_doubled(self, moved: Sequence[tuple[Document, str]], indices: Indices) -> None:
        """Removes what a stream had in an index that was its newest until it rolled over, just now."""
        doubled = await self._known([document for document, _ in moved], indices)
        for document, index in moved:
            if document.identity in doubled:
                await self._ask("DELETE", f"/{index}/_doc/{document.event_id}", accept=(404,))

    async def _known(self, documents: Sequence[Document], indices: Indices) -> set[Identity]:
        """Returns which of the documents these indices have."""
        ids: dict[str, list[str]] = {}
        for document in documents:
            ids.setdefault(document.tenant_id, []).append(str(document.event_id))
        found: set[Identity] = set()
        for tenant, wanted in ids.items():
            for index in indices.get(stream_of(tenant), ()):
                answer = await self._ask("POST", f"/{index}/_mget?_source=false", _encode({"ids": wanted}))
                there = [each for each in known_documents(answer, len(wanted)) if each.get("found")]
                found |= {(tenant, UUID(each["_id"])) for each in there}
        return found

    async def _indices(self) -> dict[str, list[str]]:
        """Returns the backing indices of each stream, the newest last: only that one is written.

        Raises:
            TargetGoneError: A stream that was there is gone, or another.
        """
        before = dict(self._seen)  # another lane may make a stream while this one asks
        streams = streams_of(await self._ask("GET", f"/_data_stream/{STREAM}*", accept=(404,)))
        for stream, known in before.items():
            found = {index.uuid for index in streams.get(stream, ())}
            if found.isdisjoint(known or found):  # it keeps one of its indices from look to look, as it rolls over
                await self._tell_gone(stream, is_there=bool(found))
            self._seen[stream] = found
        return {name: [index.name for index in behind] for name, behind in streams.items()}

    async def _tell_gone(self, stream: str, *, is_there: bool) -> NoReturn:
        """Raises TargetGoneError; TargetAwayError if the server has the stream, and did not tell of it."""
        if not is_there and await self._identity(stream) is not None:
            raise TargetAwayError(f"The server does not tell of {stream}, which it has.")
        raise TargetGoneError(GONE.format(stream=stream))

    async def erase(self, gone: Sequence[Gone]) -> None:
        """Deletes the users' documents, also those that no search sees yet."""
        there = await self._indices()
        for tenant in {each.tenant_id for each in gone}:
            stream = stream_of(tenant)
            if stream not in there:
                continue
            whole(await self._ask("POST", f"/{stream}/_refresh"))
            query = {"bool": {"should": [_query(each) for each in gone if each.tenant_id == tenant]}}
            answer = await self._ask(
                "POST",
                f"/{stream}/_delete_by_query?refresh=true&conflicts=proceed",
                _encode({"query": query}),
                timeout=ERASE_TIMEOUT,
            )
            found = told(answer)
            if found.get("failures") or found.get("version_conflicts") or found.get("timed_out"):
                raise TargetAwayError("Not every document of an erased user could be deleted: it is tried again.")

    async def users(self, tenant_id: str) -> set[str]:
        """Returns the names of all users of a tenant."""
        found: set[str] = set()
        after: dict[str, Any] = {}
        stream = stream_of(tenant_id)
        whole(await self._ask("POST", f"/{stream}/_refresh", accept=(404,)))
        while True:
            source = {"size": PAGE, "sources": [{"user": {"terms": {"field": "user_id"}}}], **after}
            body = {"size": 0, "aggs": {"users": {"composite": source}}}
            answer = whole(await self._ask("POST", f"/{stream}/_search", _encode(body), accept=(404,)))
            page = answer.get("aggregations", {}).get("users", {"buckets": ()})
            found |= {bucket["key"]["user"] for bucket in page["buckets"]}
            if not page.get("after_key"):
                return found
            after = {"after": page["after_key"]}

    async def known_good_fails(self) -> OutsideError | None:
        """Creates a document again that is there. Its fields are looked at before its id is known."""
        body = _encode({"size": 1, "query": {"match_all": {}}, "sort": [{"@timestamp": "desc"}]})
        hits = told(await self._ask("POST", f"/{STREAM},{STREAM}.*/_search", body))["hits"]["hits"]
        if not hits:
            raise TargetRefusesError("The server refuses a document, and there is none yet to compare it with.")
        hit = hits[0]
        lines = [_encode({"create": {"_index": stream_of(hit["_source"]["tenant_id"]), "_id": hit["_id"]}})]
        answer = await self._ask("POST", "/_bulk", b"\n".join([*lines, _encode(hit["_source"]), b""]), headers=NDJSON)
        try:
            checked_items(answer, 1)
        except DocumentRefusedError as error:
            return error
        return None

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, *, accept: Sequence[int] = (), **options: Any
    ) -> bytes:
        """Sends a request; returns the answer's body. Raises OutsideError."""
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        try:
            answer = await self._client.request(method, path, content=body, headers=headers, **options)
        except (httpx.HTTPError, OSError) as error:
            raise TargetAwayError(f"The server does not answer: {type(error).__name__}") from error
        return answer.content if answer.status_code in accept else checked(answer.status_code, answer.content)


def _lines(document: Document) -> tuple[bytes, bytes]:
    action = {"create": {"_index": stream_of(document.tenant_id), "_id": str(document.event_id)}}
    return _encode(action), _encode(
        {
            "@timestamp": document.occurred_at,
            "recorded_at": document.recorded_at,
            "tenant_id": document.tenant_id,
            "event_id": document.event_id,
            "user_id": document.user_id,
            "event_type": document.event_type,
            "payload": msgspec.Raw(document.payload),
            "kafka_partition": document.partition,
            "kafka_offset": document.offset,
        }
    )


def _query(gone: Gone) -> dict[str, Any]:
    return {
        "bool": {
            "filter": [
                {"terms": {"user_id": gone.users}},
                {"term": {"kafka_partition": gone.partition}},
                {"range": {"kafka_offset": {"lt": gone.before}}},
            ]
        }
    }
