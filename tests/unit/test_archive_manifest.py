"""A chain of whole entries that are not of one log: `footfall archive verify` names the file, and what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast
from unittest.mock import patch
from uuid import UUID

import asyncpg
import pytest
from aiokafka.structs import ConsumerRecord
from click.testing import CliRunner
from msgspec.structs import replace

from footfall.cli.archive import terminal
from footfall.cli.main import cli
from operations.archive.coverage import newer_erasures
from operations.archive.files.entries import FIRST, FORMAT, Entry, encoded, hash_of
from operations.archive.files.manifest import Manifest, read_manifest
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Directory
from operations.archive.writing import Source, Writer

TOPIC, ANEW = UUID(int=1), UUID(int=2)
# Of offsets without a record, so that the archive needs no file: partition, begin, end.
SPANS = ((0, 0, 10), (1, 0, 7), (0, 10, 25), (0, 25, 30))
Change = Callable[[list[Entry]], None]


def entries() -> list[Entry]:
    return [
        Entry(
            FORMAT, n, FIRST, "t", TOPIC, *span, -1, -1, 0, "", "", 0, "", hash_of(b""), "", [], "2026-11-26T12:00:00Z"
        )
        for n, span in enumerate(SPANS, 1)
    ]


def verified(place: Path, change: Change) -> tuple[int, list[tuple[str, str, str]]]:
    """Stores the entries as a chain whose hashes fit; returns the exit code and the faults that `verify` names."""
    chain, before = entries(), FIRST
    change(chain)
    (place / "manifest").mkdir()
    for entry in chain:
        stored = encoded(replace(entry, previous=before))
        (place / entry.name).write_bytes(stored)
        before = hash_of(stored)
    environment = {"ENVIRONMENT": "test", "ARCHIVE_LOCATION": str(place)}
    with patch.object(terminal, "configure_logs"):  # this process has its own
        run = CliRunner().invoke(cli, ["archive", "verify", "--json"], env=environment)
    found = json.loads(run.stdout.splitlines()[-1])["faults"]
    return run.exit_code, [(fault["kind"], fault["file"], fault["what"]) for fault in found]


def changed(number: int, **fields: object) -> Change:
    def change(chain: list[Entry]) -> None:
        chain[number - 1] = replace(chain[number - 1], **fields)

    return change


def without(number: int) -> Change:
    """Removes an entry and numbers those behind it anew, as somebody would who wants nobody to see it."""

    def change(chain: list[Entry]) -> None:
        del chain[number - 1]
        chain[:] = [replace(entry, number=place) for place, entry in enumerate(chain, 1)]

    return change


def test_a_chain_of_one_log_is_sound(tmp_path: Path) -> None:
    assert verified(tmp_path, lambda _: None) == (0, [])


@pytest.mark.parametrize(
    ("change", "kind", "number", "what"),
    [
        (without(3), "gap", 3, "partition 0 lacks the offsets 10 to 24"),
        (changed(3, begin=12), "gap", 3, "partition 0 lacks the offsets 10 to 11"),
        (changed(4, begin=20), "overlap", 4, "partition 0 has offset 20 twice"),
        (changed(4, topic_id=ANEW), "foreign", 4, f"it is of topic t {ANEW}, not of t {TOPIC}"),
        (changed(4, topic="u"), "foreign", 4, f"it is of topic u {TOPIC}, not of t {TOPIC}"),
    ],
    ids=["an entry was removed", "gap", "overlap", "made anew", "another topic"],
)
def test_what_does_not_follow_is_named(tmp_path: Path, change: Change, kind: str, number: int, what: str) -> None:
    assert verified(tmp_path, change) == (1, [(kind, f"manifest/{number:012d}.json", what)])


def test_an_entry_that_is_no_text_any_more_is_named(tmp_path: Path) -> None:
    stored = encoded(entries()[0])
    (tmp_path / entries()[0].name).parent.mkdir()
    (tmp_path / entries()[0].name).write_bytes(stored.replace(b'"topic": "t"', b'"topic": "\xf4"'))
    assert [fault.kind for fault in read_manifest(Directory(tmp_path)).faults] == ["changed"]


def test_of_two_who_create_a_name_at_once_one_is_refused_whatever_their_process_ids(tmp_path: Path) -> None:
    """In containers that share the place, every run may be process 1."""
    link, name = Path.hardlink_to, "manifest/000000000001.json"

    def overtaken(self: Path, target: Path) -> None:
        with patch.object(Path, "hardlink_to", link):
            Directory(tmp_path).create(name, b"theirs")
        link(self, target)

    with patch.object(Path, "hardlink_to", overtaken), pytest.raises(FileExistsError):
        Directory(tmp_path).create(name, b"ours")
    assert (tmp_path / name).read_bytes() == b"theirs"
    assert Directory(tmp_path).names("staging/") == []


async def test_a_file_that_another_run_removed_is_told_as_the_place_not_as_kafka(tmp_path: Path) -> None:
    record = ConsumerRecord("t", 0, 0, 0, 0, None, b"v", None, -1, 1, ())
    writer = Writer(Directory(tmp_path), Manifest([], FIRST), Source("t", TOPIC))
    file = writer.begin(0, record)
    file.add(record)
    file.path.unlink()
    with pytest.raises(ArchiveError, match="cannot be used"):
        await writer.publish(file, 1)


async def test_newer_erasures_are_told_of_a_topic_without_an_id_too() -> None:
    asked: list[object] = []

    class Erasures:
        async def fetch(self, _query: str, *arguments: object) -> list[tuple[UUID, int, int]]:
            asked.extend(arguments)
            return [(UUID(int=7), 0, 9), (UUID(int=8), 0, 30), (UUID(int=8), 1, 7)]

    unnamed = [replace(entry, topic_id=None) for entry in entries()]
    [told] = await newer_erasures(cast(asyncpg.Connection, Erasures()), Manifest(unnamed, FIRST))
    assert told.startswith("1 erasures are newer than the archive")
    assert asked == ["t", UUID(int=0)]
