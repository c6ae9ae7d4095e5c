"""Whatever the command side accepts comes back from the query side unchanged in meaning, and in jsonb too."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.validation.rules import Problems
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.shipped_types import validate_user_event

EXAMPLES = 150

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(-(2.0**53), 2.0**53),
    st.sampled_from([0.0, -0.0, 0, 2.0**53, 5e-324, 2.2250738585072014e-308, 0.1, 1 / 3, 2**53 + 1, 2**64 - 1]),
    st.text(max_size=20),
    st.sampled_from(["\\", "\\u0000", "\\N", "\\.", '"', "\n\r\t", "\u2028", "\x7f\x80", "😀", "\ufffd", "\ufeff"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
commands = st.fixed_dictionaries(
    {
        "userId": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=256),
        "eventType": st.sampled_from(["LOGIN", "LOGOUT", "PRODUCT_VIEW"]),
    },
    optional={"payload": st.dictionaries(st.text(max_size=8), values, max_size=6)},
)


def exactly(value: Any) -> Any:
    """A value that only equals its like: Python's own `==` takes true, 1 and 1.0 for the same.

    The sign of zero is set aside: PostgreSQL's numeric, and so its jsonb, has only one zero.
    """
    if isinstance(value, dict):
        return {name: exactly(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [exactly(inner) for inner in value]
    return type(value).__name__, value + 0.0 if isinstance(value, float) else value


def test_what_is_accepted_is_read_back_unchanged(footfall: Footfall) -> None:
    footfall.start("projector")
    command_side, query_side = footfall.start("command-side"), footfall.start("query-side")
    accepted: dict[str, dict[str, Any]] = {}
    refused = []
    with httpx.Client(timeout=PATIENCE) as client:

        @settings(max_examples=EXAMPLES)
        @given(commands, st.booleans())
        def send(command: dict[str, Any], ascii_only: bool) -> None:
            body = json.dumps(command, ensure_ascii=ascii_only).encode()
            answer = client.post(f"{command_side.url}/events/generate", content=body)
            if answer.status_code == 201:
                event = answer.json()["event"]
                accepted[event["eventId"]] = event
                sent = {"payload": {}, **command}
                assert exactly({name: event[name] for name in sent}) == exactly(sent)
            else:
                problems = validate_user_event(body)
                assert isinstance(problems, Problems)
                assert (answer.status_code, answer.json()["errors"]) == (400, problems.sentences)
                refused.append(command)

        send()
        assert len(accepted) > len(refused)

        def found() -> int:
            return len(client.get(f"{query_side.url}/events/processed").json())

        wait_until(lambda: found() >= len(accepted), 20, f"{len(accepted)} events to be projected")
        answer = client.get(f"{query_side.url}/events/processed")
        everything = {event["eventId"]: event for event in answer.json()}
        assert exactly(everything) == exactly(accepted)
        for event_id, event in accepted.items():
            assert exactly(client.get(f"{query_side.url}/events/{event_id}").json()) == exactly(event)

    payloads = asyncio.run(stored_payloads(footfall.servers.query_url))
    assert exactly(payloads) == exactly({event_id: event["payload"] for event_id, event in accepted.items()})


async def stored_payloads(url: str) -> dict[str, Any]:
    """The jsonb column, decoded from PostgreSQL's own rendering of it."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT event_id::text, payload::text FROM read.processed_events")
        return {event_id: json.loads(payload) for event_id, payload in rows}
    finally:
        await connection.close()
