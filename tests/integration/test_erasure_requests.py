"""Requests for erasure: nobody else is erased, nothing is published in vain, no answer says more than is known."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from aiokafka.errors import KafkaTimeoutError

from contracts.erasure import new_erasure
from contracts.record import key_of
from contracts.versions import encode_event
from operations.privacy import erase
from tests.conftest import Footfall
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import OLD, wait_until_done
from tests.drivers.sealed import KeyStoreOfTest
from tests.hostile import asked
from tests.patience import PATIENCE
from tests.producing import Raw, an_event, produce, read_topic, sql, start_projector


def test_a_request_names_one_user_in_utf_8_and_nothing_else(footfall: Footfall) -> None:
    front = footfall.start("front")
    refused = (
        *("userId=M%FCller", "userId=%ED%A0%80", "userId=a&userId=b", "userId=a&tenant=globex", "userId=a&user%FF=b"),
        *("userId=a&x", "userId=", "userId", "", "user=a", "&".join(["userId=a"] * 51)),
    )
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
        for query in refused:
            answer = client.delete(f"/users?{query}")
            assert (answer.status_code, len(answer.json()["errors"])) == (400, 1), query
        assert client.delete("/users/alice?tenant=globex").status_code == 400
        assert client.delete("/users/M%FCller").status_code == 400
        for target in (
            "/users/%zz",
            "/users/100%",
            "/users/a%2",
            "/users/%C3%BZ",
            "/users?userId=%zz",
            "/users?userId=100%",
        ):
            assert delete(front.url, target) == 400, target
        assert read_topic(footfall) == []
        assert client.delete(f"/users?userId={quote('Müller + Söhne')}").status_code == 202
        longest = "ф" * 256  # 1,536 characters in the path
        assert client.delete(f"/users/{quote(longest)}").status_code == 202
        assert client.delete(f"/users/{quote(longest)}x").status_code == 400
        assert client.delete(f"/users?userId={quote(longest)}x").status_code == 400
    erased = {json.loads(record.value or b"")["userId"] for record in read_topic(footfall)}
    assert erased == {"Müller + Söhne", longest}


def delete(url: str, target: str) -> int:
    """The status of a request whose target is sent as it is: httpx would mend it."""
    return asked(url, f"DELETE {target} HTTP/1.1\r\nHost: here\r\n\r\n".encode()).status


def test_a_command_refuses_what_no_tenant_is_and_a_role_without_the_rights(footfall: Footfall) -> None:
    for bad in ("bad tenant/x", "", "a" * 65):
        assert "A tenant's id has" in privacy(footfall, "erase", "alice", "--tenant", bad, "--yes", code=2)
        assert "A tenant's id has" in privacy(footfall, "export", "alice", "--tenant", bad, code=2)
    with pytest.raises(ValueError, match="tenant"):
        new_erasure("bad tenant/x", "alice")
    for right in ("SELECT ON ops.pseudonym_key", "INSERT ON ops.journal", "SELECT ON read_g1.dead_letters"):
        sql(footfall.servers, f"REVOKE {right} FROM footfall_writer")
        assert "Not erased" in privacy(footfall, "erase", "alice", "--yes", code=1)
        sql(footfall.servers, f"GRANT {right} TO footfall_writer")
    assert read_topic(footfall) == []


def test_markers_of_which_kafka_took_a_part_are_not_called_undone(
    footfall: Footfall, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = erase._sent

    async def half_sent(producer: Any, topic: str, records: Sequence[Any]) -> list[Any]:
        await sent(producer, topic, records[:3])
        raise KafkaTimeoutError

    monkeypatch.setattr(erase, "_sent", half_sent)
    told = privacy(footfall, "erase", "alice", "--yes", code=1)
    assert "Some markers may be in the log" in told
    assert "run the command again" in told
    assert "Not erased" not in told
    assert len(read_topic(footfall)) == 3


def test_a_marker_in_the_log_is_not_called_undone_nor_a_parked_one_done(
    footfall: Footfall, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise asyncpg.ConnectionDoesNotExistError

    with monkeypatch.context() as patch:
        patch.setattr(erase, "_behind_after", lost)
        told = privacy(footfall, "erase", "alice", "--yes", code=1)
    assert "The markers are in the log" in told
    assert "is unknown" in told
    assert "Not erased" not in told
    assert len(read_topic(footfall)) == 6

    start_projector(footfall)
    assert json.loads(privacy(footfall, "erase", "alice", "--yes", "--json"))["done"]
    sql(
        footfall.servers,
        "INSERT INTO read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset, recorded_at, header_names, "
        f"header_values, cause, error_class, error_message) VALUES ('{footfall.topic}', 3, 2, now(), '{{}}', '{{}}', "
        "'poison', 'X', 'x')",
    )
    told = privacy(footfall, "erase", "alice", "--yes", "--wait", "1", code=1)
    assert "has not applied every marker" in told


def test_who_is_called_the_same_at_another_tenant_stays_in_the_plain_and_in_the_sealed_log(
    footfall: Footfall, keys: KeyStoreOfTest
) -> None:
    plain, to_seal = ([an_alices(tenant) for tenant in ("default", "acme")] for _ in range(2))
    produce(footfall, [*plain, *keys.sealed(to_seal)])
    start_projector(footfall, **keys.environment())
    wait_until_done(footfall, OLD, 4)
    told = privacy(footfall, "erase", "alice", "--tenant", "acme", "--yes", "--json", keys=keys.environment())
    assert json.loads(told)["done"]
    left = sql(footfall.servers, "SELECT tenant_id, user_id FROM read_g1.processed_events")
    assert [tuple(row) for row in left] == [("default", "alice")] * 2
    assert [row["tenant_id"] for row in keys.sql("SELECT tenant_id FROM key_store.subjects")] == ["default"]


def an_alices(tenant: str) -> Raw:
    return Raw(encode_event(an_event("alice", tenant_id=tenant)), key_of(tenant, "alice"))
