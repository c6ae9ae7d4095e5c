"""What BigQuery answers, and the token that it is asked with."""

import json
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from projector.writing.failure import Failure, OutsideError, kind_of
from sinks.targets.bigquery import tokens
from sinks.targets.bigquery.rest_api import error_of, told
from sinks.targets.bigquery.tokens import Tokens

JANE = "Invalid timestamp: 'Jane Doe'"


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (400, "invalidQuery", JANE, Failure.SUSPECT),
        (200, "invalidQuery", JANE, Failure.SUSPECT),
        (400, "invalidQuery", "Transaction is aborted due to concurrent update against table", Failure.TRANSIENT),
        (400, "resourcesExceeded", "", Failure.TOO_MUCH),
        (413, "", "", Failure.TOO_MUCH),
        (403, "rateLimitExceeded", "", Failure.TRANSIENT),
        (503, "", "", Failure.TRANSIENT),
        (401, "authError", "", Failure.TRANSIENT),
        (403, "accessDenied", "", Failure.SERVER),
        (404, "notFound", "", Failure.SERVER),
        (400, "something new", "", Failure.SERVER),
    ],
)
def test_a_failure_has_the_kind_of_its_reason_and_quotes_nothing(
    status: int, reason: str, message: str, kind: Failure
) -> None:
    error = error_of(status, reason, message, blames=True)
    assert kind_of(error) is kind
    assert "Jane" not in str(error)


def test_only_a_statement_that_stores_records_blames_one() -> None:
    assert kind_of(error_of(400, "invalidQuery", "", blames=False)) is Failure.SERVER


@pytest.mark.parametrize("page", [b"", b"<html>please wait</html>", b"[]", b"{}", b'{"error":"\xe9"}'])
def test_an_answer_that_is_none_is_waited_for(page: bytes) -> None:
    with pytest.raises(OutsideError) as raised:
        told(200, page, blames=True)
    assert kind_of(raised.value) is Failure.TRANSIENT


async def test_a_token_is_asked_for_with_the_key_of_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, asked = RSAKey.generate_key(2048), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(parse_qs(request.content.decode()))
        return httpx.Response(200, json={"access_token": f"token-{len(asked)}", "expires_in": 3_600})

    client = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **_: client(transport=httpx.MockTransport(answer)))
    file = tmp_path / "key.json"
    account = {"client_email": "sink@project", "token_uri": "https://login/token", "private_key_id": "1"}
    file.write_text(json.dumps({**account, "private_key": key.as_pem(private=True).decode()}))
    found = Tokens(file)
    assert [await found.token(), await found.token()] == ["token-1", "token-1"]
    found.forget()
    assert await found.token() == "token-2"
    claims = jwt.decode(asked[0]["assertion"][0], key, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["aud"], claims["scope"]) == ("sink@project", "https://login/token", tokens.SCOPE)
    assert claims["exp"] - claims["iat"] == 3_600
