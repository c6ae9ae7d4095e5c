"""The key store's standby takes over without the last transactions: what was sealed is read, who left stays away."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, hits
from tests.drivers.failover import standby_of, wait_until_followed
from tests.drivers.privacy import privacy
from tests.drivers.sealed import KeyStoreOfTest, key_store_at
from tests.own_postgres import OwnPostgres, own_postgres
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import logged, sql, start_projector

GONE, LEAVING, BY_HTTP = "gone+canary@example.com", "leaving+canary@example.com", "left+canary@example.com"
LETTERS = "SELECT FROM read_g1.dead_letters"
STOPS = "SELECT stopped_reason FROM read_g1.checkpoints WHERE stopped_reason IS NOT NULL"


@pytest.fixture
def pair() -> Iterator[tuple[OwnPostgres, OwnPostgres, KeyStoreOfTest]]:
    """A primary, its standby, and a key store that is reached wherever it may be written."""
    with tempfile.TemporaryDirectory(prefix="footfall-failover-") as directory:
        Path(directory).chmod(0o755)
        with own_postgres(migrated=False) as primary:
            keys = key_store_at(primary.superuser_url())
            with standby_of(primary, Path(directory)) as standby:
                at = f"127.0.0.1:{primary.port}"
                both = f"{at},127.0.0.1:{standby.port}"
                keys.url = keys.url.replace(at, both) + "?target_session_attrs=read-write"
                yield primary, standby, keys


def post(front: Process, user: str) -> int:
    return httpx.post(f"{front.url}/events/generate", json={"userId": user, "eventType": "LOGIN"}).status_code


def stored(footfall: Footfall) -> list[str]:
    return sorted(row[0] for row in sql(footfall.servers, "SELECT user_id FROM read_g1.processed_events"))


def erased_by_command(footfall: Footfall, keys: KeyStoreOfTest, user: str, wait: str, code: int) -> None:
    privacy(footfall, "erase", user, "--yes", "--wait", wait, code=code, keys=keys.environment())


def test_a_standby_that_lacks_the_last_transactions_takes_over(
    footfall: Footfall, pair: tuple[OwnPostgres, OwnPostgres, KeyStoreOfTest]
) -> None:
    primary, standby, keys = pair
    fronts = [footfall.start("front", ready=True, **keys.environment()) for _ in range(2)]
    projector = start_projector(footfall, **keys.environment())
    known = ["known", GONE, LEAVING, BY_HTTP]
    assert [post(front, user) for user in known for front in fronts] == [201] * 8
    wait_until(lambda: len(stored(footfall)) == 8, PATIENCE, "the rows")
    wait_until_followed(primary, standby)

    standby.stop()  # from here on it lacks what happens
    assert [post(front, f"late-{n}") for n, front in enumerate(fronts)] == [201, 201]
    erased_by_command(footfall, keys, GONE, "30", 0)
    wait_until(lambda: len(stored(footfall)) == 8, PATIENCE, "the rows without who is gone")
    assert projector.terminate() == 0
    erased_by_command(footfall, keys, LEAVING, "0", 1)
    assert httpx.delete(f"{fronts[0].url}/users/{BY_HTTP}").status_code == 202
    primary.stop()
    assert post(fronts[0], "known") == 201, "who is remembered needs no key store"
    assert post(fronts[1], "nobody-knows") == 503

    standby.start()
    standby.run("SELECT pg_promote()")
    keys.admin_url = keys.admin_url.replace(str(primary.port), str(standby.port))
    wait_until(lambda: any(logged(front, "keys_given_back") for front in fronts), PATIENCE, "the keys to be given back")
    wait_until(lambda: post(fronts[1], "nobody-knows") == 201, PATIENCE, "new users to be served")
    assert [post(front, f"late-{n}") for front in fronts for n in range(2)] == [201] * 4
    wait_until(lambda: bool(keys.sql("SELECT FROM key_store.erasures")), PATIENCE, "the erasure by HTTP to be back")
    again = start_projector(footfall, **keys.environment())
    expected = sorted(["known"] * 3 + ["late-0", "late-1"] * 3 + ["nobody-knows"])
    wait_until(lambda: stored(footfall) == expected, PATIENCE, f"what was sealed, and nobody who left: {again.log}")
    of_who_stay = "SELECT DISTINCT user_tag FROM key_store.subjects"
    wait_until(lambda: len(keys.sql(of_who_stay)) == 4, PATIENCE, "the keys of who left to be destroyed, again or now")
    assert not sql(footfall.servers, LETTERS)
    assert not sql(footfall.servers, STOPS)
    for user in (GONE, LEAVING, BY_HTTP):
        assert hits(footfall, user, "read_g1") == {}
    assert [front.terminate() for front in fronts] == [0, 0]
    fresh = footfall.start("front", ready=True, **keys.environment())
    assert [post(fresh, user) for user in ("known", "late-0", "late-1", GONE)] == [201] * 4
    wait_until(
        lambda: len(stored(footfall)) == len(expected) + 4, PATIENCE, "what a process seals that remembers nobody"
    )
    assert len(keys.sql(of_who_stay)) == 5
    assert_rebuilt_the_same(footfall)
