"""Paging and exporting while generations are promoted and rolled back: no event is skipped or repeated."""

import json
import threading
from collections.abc import Callable

import httpx

from tests.conftest import Footfall
from tests.drivers.rebuilding import NEW, OLD, a_day, rebuild, state_of, wait_until_done
from tests.patience import PATIENCE
from tests.producing import produce, start_projector

COUNT = 3_000
PATH = "/events/processed"


class Reader:
    """Reads everything again and again from a thread, until `end`; keeps what was not as it should be."""

    def __init__(self, url: str, read: Callable[[httpx.Client], list[str]], expected: list[str]) -> None:
        self._url, self._read, self._expected = url, read, expected
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failures: list[str] = []
        self.rounds = 0
        self._thread.start()

    def end(self) -> None:
        """Lets the round that is under way come to its end."""
        self._ended.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE) as client:
            while not self._ended.is_set():
                found = self._read(client)
                self.rounds += 1
                if found != self._expected:
                    self.failures.append(
                        f"{len(found)} events, {len(set(found))} different, after {self.rounds} rounds"
                    )


def ids(lines: list[str]) -> list[str]:
    return [json.loads(line)["eventId"] for line in lines]


def by_pages(client: httpx.Client) -> list[str]:
    """All events, page after page; each page may come from another generation."""
    found: list[str] = []
    path = f"{PATH}?limit=50&order=desc"
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        found += [one["eventId"] for one in answer.json()]
        path = answer.links.get("next", {}).get("url", "")
    return found[::-1]


def by_export(client: httpx.Client) -> list[str]:
    """All events in one answer."""
    answer = client.get(PATH, headers={"accept": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    return ids(answer.text.splitlines())


def of_users(client: httpx.Client) -> list[str]:
    """All events, user by user, in the order of time."""
    found = []
    for number in range(37):
        answer = client.get(f"/users/user-{number}/events?limit=1000")
        assert answer.status_code == 200, answer.text
        found += [(one["timestamp"], one["eventId"]) for one in answer.json()]
    return [event_id for _, event_id in sorted(found)]


def test_no_page_and_no_export_skips_or_repeats_while_generations_change(footfall: Footfall) -> None:
    produce(footfall, a_day(COUNT))
    start_projector(footfall)
    wait_until_done(footfall, OLD, COUNT)
    rebuild(footfall, "start")
    side = footfall.start("query-side")
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
        expected = by_export(client)
    assert len(set(expected)) == COUNT
    wait_until_done(footfall, NEW, COUNT)
    assert "is verified" in rebuild(footfall, "verify")
    readers = [Reader(side.url, read, expected) for read in (by_pages, by_pages, by_export, of_users)]
    try:
        rebuild(footfall, "promote")
        assert state_of(footfall, NEW) == "active"
        for _ in range(2):
            rebuild(footfall, "rollback")
    finally:
        for reader in readers:
            reader.end()
    assert [reader.failures for reader in readers] == [[], [], [], []]
    assert all(reader.rounds >= 1 for reader in readers)
    assert "read_model_unavailable" not in side.log_text()
