"""Retention: what is older than a tenant keeps it goes from every generation, and a rebuild does not bring it back."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, hits
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, dlq, rebuild, wait_until_done
from tests.producing import Raw, an_event, checkpoints, produce, record_of, sql, start_projector, wait_until_processed

NOW = datetime.now(UTC)
KINDS = ("LOGIN", "PRODUCT_VIEW", "LOGOUT")
AGES = (0, 40, 100)  # days


def a_history() -> list[Raw]:
    """Sessions of three users today, 40 and 100 days ago."""
    return [
        record_of(an_event(f"user-{user}", event_type=kind, timestamp=NOW - timedelta(days=days, minutes=5 - number)))
        for days in sorted(AGES, reverse=True)
        for user in range(3)
        for number, kind in enumerate(KINDS)
    ]


def kept(footfall: Footfall, schema: str) -> Counter[tuple[str, int]]:
    """Events by type and age in days."""
    rows = sql(footfall.servers, f"SELECT event_type, occurred_at FROM {schema}.processed_events")
    return Counter((row["event_type"], round((NOW - row["occurred_at"]) / timedelta(days=1))) for row in rows)


def total(footfall: Footfall, statement: str) -> int:
    [(found,)] = sql(footfall.servers, statement)
    return int(found)


def test_old_events_go_by_type_and_tenant_and_a_rebuild_does_not_bring_them_back(footfall: Footfall) -> None:
    produce(footfall, a_history())
    start_projector(footfall)
    wait_until_processed(footfall, 27)
    counted = total(footfall, "SELECT sum(events) FROM read_g1.activity_hourly")
    assert "for ever" in privacy(footfall, "retention", "list")
    privacy(footfall, "retention", "set", "--days", "60")
    privacy(footfall, "retention", "set", "--type", "PRODUCT_VIEW", "--days", "30")
    privacy(footfall, "retention", "set", "--tenant", "another", "--days", "1")
    assert len(json.loads(privacy(footfall, "retention", "list", "--json"))) == 3
    assert sum(kept(footfall, OLD).values()) == 27  # setting a line deletes nothing

    told = json.loads(privacy(footfall, "retention", "run", "--json"))
    expected = {(kind, age): 3 for kind in KINDS for age in AGES if age < (30 if kind == "PRODUCT_VIEW" else 60)}
    assert kept(footfall, OLD) == expected
    assert told[OLD]["rows"]["processed_events"] == 27 - 15
    assert total(footfall, "SELECT count(*) FROM read_g1.user_sessions") == 6
    assert total(footfall, "SELECT count(*) FROM read_g1.product_views_users") == 6
    assert total(footfall, "SELECT sum(events) FROM read_g1.activity_hourly") == counted == 27
    assert json.loads(privacy(footfall, "retention", "run", "--json"))[OLD]["rows"]["processed_events"] == 0

    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, sum(row["next_offset"] for row in checkpoints(footfall).values()))
    assert json.loads(rebuild(footfall, "verify", "--json"))["equal"]
    rebuild(footfall, "promote")
    assert kept(footfall, "read") == expected
    privacy(footfall, "retention", "remove", "--type", "PRODUCT_VIEW")
    privacy(footfall, "retention", "remove", "--type", "PRODUCT_VIEW", code=1)
    actions = [row["action"] for row in sql(footfall.servers, "SELECT action FROM ops.audit WHERE outcome = 'done'")]
    assert Counter(actions)["privacy retention run"] == 2


def test_who_is_erased_after_their_old_events_went_is_in_no_table(footfall: Footfall) -> None:
    produce(footfall, a_history())
    produce(footfall, [record_of(an_event("user-1", event_type="SEARCH", timestamp=NOW - timedelta(days=50)))])
    start_projector(footfall)
    wait_until_processed(footfall, 28)
    for kind in ("PRODUCT_VIEW", "SEARCH"):
        privacy(footfall, "retention", "set", "--type", kind, "--days", "30")
    privacy(footfall, "retention", "run")
    assert json.loads(privacy(footfall, "erase", "user-1", "--yes", "--json"))["done"]
    assert hits(footfall, "user-1", OLD) == {}
    assert quoted_in_statistics(footfall, "user-1")
    privacy(footfall, "retention", "run")
    assert not quoted_in_statistics(footfall, "user-1")
    produce(footfall, a_history())  # the user is back, in hours of which they were erased
    wait_until_processed(footfall, 28 + 27)
    privacy(footfall, "retention", "run")
    assert_rebuilt_the_same(footfall)


def quoted_in_statistics(footfall: Footfall, user: str) -> bool:
    """Whether PostgreSQL's statistics of the read model name the user."""
    told = f"concat_ws(' ', most_common_vals::text, histogram_bounds::text) ~ '\\y{user}\\y'"
    return bool(sql(footfall.servers, f"SELECT FROM pg_stats WHERE schemaname = '{OLD}' AND {told} LIMIT 1"))


def test_settled_dead_letters_go_and_what_was_discarded_stays_discarded(footfall: Footfall) -> None:
    broken = [encode_event(an_event(f"user-{n}")).replace(b"PRODUCT_VIEW", b"wink") for n in range(3)]
    produce(footfall, [Raw(value, f"user-{n}".encode(), 0) for n, value in enumerate(broken)])
    start_projector(footfall)
    wait_until_processed(footfall, 3)
    dlq(footfall, "discard", "--user", "user-0", "--yes")
    dlq(footfall, "discard", "--user", "user-1", "--yes")
    sql(footfall.servers, "UPDATE read_g1.dead_letters SET resolved_at = resolved_at - interval '9 days' "
                          "WHERE user_id = 'user-0'")  # fmt: skip
    sql(footfall.servers, "UPDATE read_g1.dead_letters SET parked_at = parked_at - interval '9 days'")
    privacy(footfall, "retention", "set", "--dead-letters", "--days", "7")
    told = privacy(footfall, "retention", "run")
    assert "1 of dead_letters" in told
    assert "1 older letters are parked" in told
    letters = sql(
        footfall.servers,
        "SELECT state, user_id, record_value, error_message FROM read_g1.dead_letters ORDER BY 2 NULLS FIRST",
    )
    assert [(row["state"], row["user_id"], row["record_value"] is None) for row in letters] == [
        ("discarded", None, True),
        ("discarded", "user-1", False),
        ("parked", "user-2", False),
    ]
    assert [row["error_message"] == "The record is erased." for row in letters] == [True, False, False]
