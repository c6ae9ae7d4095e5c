"""The guard of typed routes reads a signature once, whatever the requests."""

from litestar import Litestar, get
from litestar.testing import TestClient

from contracts.types import FIRST_TYPES
from query_side.api.declared import To
from query_side.api.reading import refused
from query_side.api.strictness import declared_by, strict
from web.policies.decisions import RefusedError


@get("/until", sync_to_thread=False)
def until(moment: To = None) -> str:
    return "now" if moment is None else moment.isoformat()


def test_a_signature_is_read_once_and_what_it_does_not_declare_is_refused() -> None:
    app = Litestar(
        [until], guards=[strict(FIRST_TYPES)], exception_handlers={RefusedError: refused}, openapi_config=None
    )
    before = declared_by.cache_info()
    with TestClient(app) as client:
        told = [client.get("/until", params={"to": "2026-01-31"}).text for _ in range(3)]
        assert told == ["2026-01-31T00:00:00+00:00"] * 3
        assert client.get("/until").text == "now"
        assert client.get("/until?moment=now").json()["errors"] == ["Unknown parameter `moment`; this path takes to."]
    after = declared_by.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 4)
