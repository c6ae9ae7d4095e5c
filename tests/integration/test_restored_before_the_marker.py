"""A key store that is restored between the request of an erasure and the marker's turn: nothing of the user stays."""

import os
import subprocess
from pathlib import Path

import httpx

from footfall.local.embedded.postgres.cluster import BIN
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, hits
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, wait_until_done
from tests.drivers.sealed import KeyStoreOfTest
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import an_event, logged, produce, record_of, sql, start_projector

CANARY = "alice+canary@example.com"
SECRET = "payload-canary"
MARKERS = 6  # one for each partition


def post(front: Process, user: str) -> None:
    command = {"userId": user, "eventType": "LOGIN", "payload": {"note": SECRET if user == CANARY else ""}}
    assert httpx.post(f"{front.url}/events/generate", json=command).status_code == 201


def run(program: str, *arguments: str) -> None:
    """Runs a program of PostgreSQL's."""
    done = subprocess.run(
        [str(BIN / program), *arguments], env={"PATH": os.defpath}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def back_up(keys: KeyStoreOfTest, file: Path) -> None:
    run("pg_dump", "--format=custom", "--schema=key_store", f"--file={file}", keys.admin_url)


def restore(keys: KeyStoreOfTest, file: Path) -> None:
    run("pg_restore", "--single-transaction", "--clean", "--if-exists", f"--dbname={keys.admin_url}", str(file))


def erase_later(footfall: Footfall, keys: KeyStoreOfTest, user: str = CANARY) -> None:
    """As an operator who does not wait: no projector runs."""
    privacy(footfall, "erase", user, "--yes", "--wait", "0", code=1, keys=keys.environment())


def test_who_was_erased_by_command_is_erased_although_the_backup_knows_nothing_of_it(
    footfall: Footfall, keys: KeyStoreOfTest, tmp_path: Path
) -> None:
    """Rows of her are there, and events that no projector has read. Nobody who runs remembers the erasure."""
    produce(footfall, [record_of(an_event(CANARY, {"note": SECRET}))])  # from before the log was sealed
    front = footfall.start("front", ready=True, **keys.environment())
    projector = start_projector(footfall, **keys.environment())
    for user in (CANARY, "stays"):
        post(front, user)
    wait_until_done(footfall, OLD, 3)
    assert projector.terminate() == 0
    post(front, CANARY)
    assert front.terminate() == 0
    back_up(keys, tmp_path / "backup")
    erase_later(footfall, keys)
    restore(keys, tmp_path / "backup")
    assert not keys.sql("SELECT FROM key_store.erasures")
    assert not keys.sql("SELECT FROM key_store.subjects WHERE retired_at IS NOT NULL")

    start_projector(footfall, **keys.environment())
    wait_until_done(footfall, OLD, 4 + MARKERS)
    assert hits(footfall, CANARY, OLD) == hits(footfall, SECRET, OLD) == {}
    wait_until(lambda: len(keys.sql("SELECT FROM key_store.subjects")) == 1, PATIENCE, "her key to be destroyed again")
    assert len(sql(footfall.servers, "SELECT DISTINCT pseudonym FROM ops.erasures")) == 1
    again = footfall.start("front", ready=True, **keys.environment())
    post(again, CANARY)
    wait_until_done(footfall, OLD, 5 + MARKERS)
    assert len(sql(footfall.servers, f"SELECT FROM read_g1.processed_events WHERE user_id = '{CANARY}'")) == 1
    assert_rebuilt_the_same(footfall)
    assert len(sql(footfall.servers, f"SELECT FROM {NEW}.processed_events WHERE user_id = '{CANARY}'")) == 1


def test_an_erasure_whose_marker_nobody_can_read_any_more_is_told_with_what_to_do(
    footfall: Footfall, keys: KeyStoreOfTest, tmp_path: Path
) -> None:
    """Her events are from before the log was sealed, so she never had a key: only the lost one says whom to erase."""
    produce(footfall, [record_of(an_event(CANARY, {"note": SECRET}))])
    back_up(keys, tmp_path / "backup")
    erase_later(footfall, keys)
    restore(keys, tmp_path / "backup")
    projector = start_projector(footfall, **keys.environment())
    wait_until_done(footfall, OLD, 1 + MARKERS)
    told, *more = logged(projector, "erasure_unreadable")
    assert len(more) < MARKERS
    assert "ask again" in told["remedy"]
    assert told["erasure_id"] in str(sql(footfall.servers, "SELECT erasure_id FROM ops.erasures"))
    assert CANARY not in projector.log_text()
    privacy(footfall, "erase", CANARY, "--yes", keys=keys.environment())
    assert hits(footfall, CANARY, OLD) == hits(footfall, SECRET, OLD) == {}
    assert len(logged(projector, "erasure_unreadable")) == 1 + len(more)
