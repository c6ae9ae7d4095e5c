"""In production no sink sends events in the clear beyond this machine."""

from typing import Any

import pytest

from sinks.settings import SinkSettings


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("http://search.example.org:9200", True),
        ("HTTP://search.example.org:9200", True),
        ("http://localhost.example.org", True),
        ("http://127.0.0.1.example.org", True),
        ("http://localhost@search.example.org", True),
        ("https://search.example.org", False),
        ("http://localhost:9200", False),
        ("http://user:secret@127.0.0.1:9200", False),
        ("http://[::1]:9200", False),
        ("http://[::1", False),  # none at all, as the client says that connects
        ("", False),
    ],
)
def test_http_beyond_this_machine_is_refused(url: str, is_refused: bool) -> None:
    for field in ("sink_url", "sink_bigquery_url"):
        settings: dict[str, Any] = {"database_url": "postgresql://localhost/footfall", field: url}
        problems = SinkSettings(**settings).problems_in_production()
        assert any("sends every event in the clear. Use https://" in one for one in problems) is is_refused
