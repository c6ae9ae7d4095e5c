"""What `footfall up` prints to paste: as it always was for an open door, and with a key where one is needed."""

from pathlib import Path
from typing import Any

import pytest

from footfall.local.running import Running
from footfall.local.up import welcome


def told(auth: str, security: Any = None) -> str:
    stack: Any = type("Stack", (), {"kafka_bootstrap": "127.0.0.1:9092", "security": security})()
    return welcome(Running("http://127.0.0.1:3000", stack, [], Path("state/logs"), auth))


def test_an_open_door_needs_no_key() -> None:
    assert told("open") == (
        "\n[bold]Footfall is up at http://127.0.0.1:3000[/bold]   (Ctrl-C stops everything)\n"
        "Kafka 127.0.0.1:9092   logs in state/logs\n\n"
        "curl -s http://127.0.0.1:3000/events/generate -H 'Content-Type: application/json' \\\n"
        """  -d '{"userId":"user-1","eventType":"PRODUCT_VIEW","payload":{"productId":"p-42"}}'\n\n"""
        "curl -s http://127.0.0.1:3000/events/processed\n"
        "footfall sql --state-dir state\n"
    )


@pytest.mark.parametrize(
    ("auth", "first"),
    [
        ("keys", "KEY=$(footfall keys create --kind secret --name first --state-dir state)\n"),
        ("keys,tokens", "KEY=$(footfall keys create --kind secret --name first --state-dir state)\n"),
        ("tokens", "KEY=...  # an access token of your OpenID provider\n"),
    ],
)
def test_a_door_that_is_not_open_is_asked_with_a_key_that_is_made_first(auth: str, first: str) -> None:
    text = told(auth)
    shown = '-H "Authorization: Bearer $KEY"'
    assert f"{first}\ncurl -s http://127.0.0.1:3000/events/generate {shown} -H 'Content-Type" in text
    assert f"curl -s http://127.0.0.1:3000/events/processed {shown}\n" in text
