"""BigQuery's REST API: one query at a time, and what its errors mean. A record is blamed last."""

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from projector.writing.failure import OutsideError
from sinks.target import DocumentRefusedError, TargetAwayError, TargetRefusesError, TooMuchError
from sinks.targets.bigquery.tokens import Tokens

TIMEOUT = 55.0  # seconds; a batch has 60
WAIT_MS = 20_000  # until an unfinished query is asked for again
Rows = list[list[str | None]]

OF_STATEMENTS = frozenset({"invalidQuery", "invalid"})  # what the statement says cannot be done
AWAY = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "rateLimitExceeded",
        "jobRateLimitExceeded",
    }
    | {"quotaExceeded", "tableUnavailable", "resourceInUse", "stopped", "timeout"}
)
TOO_MUCH = frozenset({"resourcesExceeded", "responseTooLarge", "requestTooLarge"})
CONCURRENT = "concurrent update"  # another transaction was first: this one is to be tried again
AWAY_STATUS = frozenset({401, 408, 429, 500, 502, 503, 504})  # 401: with another token


class RestApi:
    """The queries of one project."""

    def __init__(self, url: str, project: str, tokens: Tokens | None) -> None:
        """`tokens`: None for an emulator, which asks for none."""
        self._client = httpx.AsyncClient(
            base_url=f"{url}/bigquery/v2/projects/{project}", timeout=TIMEOUT, trust_env=False
        )
        self._tokens = tokens

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()

    async def query(self, sql: str, *, blames: bool = False, **texts: str) -> Rows:
        """Runs statements; returns the rows of the last one.

        Args:
            sql: One statement or several.
            blames: Whether what is refused may be a record's fault.
            texts: Parameters.

        Raises:
            OutsideError: It failed.
        """
        parameters = [
            {"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": text}}
            for name, text in texts.items()
        ]
        body = {"query": sql, "useLegacySql": False, "timeoutMs": WAIT_MS}
        named = {"parameterMode": "NAMED", "queryParameters": parameters} if parameters else {}
        answer = await self._ask("POST", "/queries", blames=blames, json={**body, **named})
        rows = _rows(answer)
        while not answer.get("jobComplete") or answer.get("pageToken"):
            job = answer["jobReference"]
            asked = {"location": job.get("location"), "timeoutMs": WAIT_MS, "pageToken": answer.get("pageToken")}
            given = {name: value for name, value in asked.items() if value is not None}
            answer = await self._ask("GET", f"/queries/{job['jobId']}", blames=blames, params=given)
            rows += _rows(answer)
        return rows

    async def _ask(self, method: str, path: str, *, blames: bool, **sent: Any) -> dict[str, Any]:
        headers = {} if self._tokens is None else {"Authorization": f"Bearer {await self._tokens.token()}"}
        try:
            answer = await self._client.request(method, path, headers=headers, **sent)
        except (httpx.HTTPError, OSError) as error:
            raise TargetAwayError(f"BigQuery does not answer: {type(error).__name__}") from error
        if answer.status_code == 401 and self._tokens is not None:
            self._tokens.forget()
        return told(answer.status_code, answer.content, blames=blames)


def told(status: int, content: bytes, *, blames: bool) -> dict[str, Any]:
    """Returns what an answer says. Raises OutsideError for one that tells of a failure."""
    try:
        answer: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = {}
    failure = _failure(answer)
    if status < 300 and not failure and isinstance(answer, dict) and answer:
        return answer
    raise error_of(status, str(failure.get("reason", "")), str(failure.get("message", "")), blames=blames)


def error_of(status: int, reason: str, message: str, *, blames: bool) -> OutsideError:
    """Returns the error that a failure stands for. Its message may quote a record, so nobody repeats it."""
    words = f"{status} {reason}".strip()
    if reason in TOO_MUCH or status == 413:
        return TooMuchError(f"BigQuery takes no statement of this size: {words}")
    if reason in AWAY or status in AWAY_STATUS or CONCURRENT in message:
        return TargetAwayError(f"BigQuery does not take it now: {words}")
    if status < 300 and not reason:
        return TargetAwayError("BigQuery's answer is none.")
    if reason in OF_STATEMENTS and blames:
        return DocumentRefusedError(f"BigQuery refuses it: {words}")
    return TargetRefusesError(f"BigQuery refuses: {words}")


def _failure(answer: Any) -> Mapping[str, Any]:
    """Returns the first failure of an answer: of the request, or of its query."""
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error")
    found = error.get("errors") if isinstance(error, dict) else answer.get("errors")
    first = found[0] if isinstance(found, list) and found else error
    return first if isinstance(first, dict) else {}


def _rows(answer: Mapping[str, Any]) -> Rows:
    return [[field.get("v") for field in row["f"]] for row in answer.get("rows") or ()]
