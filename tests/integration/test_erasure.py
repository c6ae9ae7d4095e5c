"""Erasure: what a user did before the marker goes from every table, counts stay, and a rebuild says the same."""

import asyncio
import contextlib
import io
import json
import os
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec
from click.testing import CliRunner

from contracts.versions import encode_event
from footfall.cli.main import cli
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, counts, hits
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import NEW, OLD, a_day, dlq, rebuild, wait_until_done
from tests.drivers.rewriting import bytes_of, rewrite
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import (
    Raw,
    an_event,
    checkpoints,
    produce,
    record_of,
    rows,
    sql,
    start_projector,
    wait_until_processed,
)

LONG = bool(os.environ.get("FOOTFALL_LONG"))
CANARY = "alice+canary@example.com"
KINDS = ("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT", "PRODUCT_VIEW", "SEARCH")


def of_canary(count: int, user: str = CANARY) -> list[Raw]:
    """Events of every type, one that only rows count among them."""
    return [
        record_of(
            an_event(user, {"productId": f"p-{n % 11}", "mail": f"{CANARY} {n}"}, event_type=KINDS[n % len(KINDS)])
        )
        for n in range(count)
    ]


def letters_of_canary() -> list[Raw]:
    """Records that are parked: by key, behind one of their key, without a key, and by key although no JSON."""
    broken = encode_event(an_event(CANARY)).replace(b"PRODUCT_VIEW", b"wink")
    [behind] = of_canary(1)
    return [
        Raw(broken, CANARY.encode()),
        behind,
        Raw(broken, None, 3),
        Raw(broken, b"neighbour"),
        Raw(b'{"userId": "%b", ' % CANARY.encode(), CANARY.encode(), 4),
    ]


def erase(front: Process, user: str) -> dict[str, Any]:
    answer = httpx.delete(f"{front.url}/users/{user}", timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def wait_until_erased(footfall: Footfall, answer: dict[str, Any], generation: str = OLD) -> None:
    places = [position.split("-") for position in answer["erasure"]["positions"]]
    wanted = {int(partition): int(offset) for partition, offset in places}
    assert len(wanted) == 6

    def passed() -> bool:
        found = sql(footfall.servers, f"SELECT partition, next_offset FROM {generation}.checkpoints")
        stands = {row["partition"]: row["next_offset"] for row in found}
        return all(stands.get(partition, 0) > offset for partition, offset in wanted.items())

    wait_until(passed, 30, "every partition to pass its marker")


def test_an_erased_user_is_in_no_table_and_every_count_stays(footfall: Footfall) -> None:
    scattered = msgspec.structs.replace(an_event(CANARY))
    records = [*a_day(200), *of_canary(60), record_of(scattered, 0), record_of(an_event(CANARY), 5)]
    produce(footfall, records)
    projector = start_projector(footfall)
    produce(footfall, letters_of_canary())
    wait_until_processed(footfall, len(records) + 4)
    wait_until(lambda: len(hits(footfall, CANARY, OLD)) >= 8, 30, "rows of the canary in every table")
    before = counts(footfall)
    front = footfall.start("front")
    assert httpx.get(f"{front.url}/users/{CANARY}/activity").status_code == 200

    answer = erase(front, CANARY)
    assert [answer[name] for name in ("success", "event", "errors", "error")] == [True, None, None, None]
    assert any("log keeps" in sentence for sentence in answer["erasure"]["remains"])
    wait_until_erased(footfall, answer)
    assert hits(footfall, CANARY, OLD) == {}
    assert hits(footfall, CANARY, "ops") == {}
    assert counts(footfall) == before
    assert httpx.get(f"{front.url}/users/{CANARY}/activity").status_code == 404
    assert httpx.get(f"{front.url}/users/{CANARY}/sessions").json() == []
    assert httpx.get(f"{front.url}/events/processed", params={"userId": CANARY}).json() == []
    assert len(sql(footfall.servers, "SELECT * FROM ops.erasures")) == 6

    produce(footfall, [*of_canary(1), record_of(an_event("neighbour"))])  # nothing is parked before them any more
    wait_until(lambda: "neighbour" in str(rows(footfall)), 30, "the user whose key a letter had")
    wait_until(lambda: len(httpx.get(f"{front.url}/users/{CANARY}/events").json()) == 1, 30, "the user to be back")
    assert httpx.get(f"{front.url}/users/{CANARY}/activity").json()["logins"] == 1
    assert_rebuilt_the_same(footfall)
    assert CANARY not in projector.log_text() + front.log_text()
    assert "batch_failed" not in projector.log_text()


def test_a_rebuild_meets_stubs_and_its_tables_never_hold_the_user(footfall: Footfall) -> None:
    produce(footfall, [*a_day(200), *of_canary(60)])
    produce(footfall, letters_of_canary())
    projector = start_projector(footfall)
    wait_until_processed(footfall, 264)
    before = counts(footfall)
    told = json.loads(privacy(footfall, "erase", CANARY, "--yes", "--json"))
    produce(footfall, of_canary(7))
    wait_until(lambda: len(hits(footfall, CANARY, OLD)) > 3, 30, "the user to be back")
    assert projector.terminate() == 0

    rebuild(footfall, "start")
    holds = {partition: int(offset) for partition, offset in told["markers"].items()}
    sql(
        footfall.servers,
        f"UPDATE ops.generations SET holds = '{json.dumps(holds)}', held_until = now() + interval '1 hour' "
        f"WHERE name = '{NEW}'",
    )
    again = start_projector(footfall)
    wait_until_done(footfall, NEW, sum(holds.values()))
    assert hits(footfall, CANARY, NEW) == {}
    assert hits(footfall, "erased-", NEW).keys() >= {"processed_events", "user_sessions", "product_views_users"}
    assert counts(footfall, NEW) == before

    sql(footfall.servers, f"UPDATE ops.generations SET holds = NULL, held_until = NULL WHERE name = '{NEW}'")
    wait_until_done(footfall, NEW, sum(row["next_offset"] for row in checkpoints(footfall).values()))
    found = json.loads(rebuild(footfall, "verify", "--json"))
    assert found["equal"], found
    assert hits(footfall, "erased-", NEW) == {}
    assert counts(footfall, NEW) == counts(footfall)
    assert "batch_failed" not in again.log_text()


def test_letters_of_others_stay_and_an_escaped_id_is_found(footfall: Footfall) -> None:
    """The id is a word that many values quote: only a key, or the user id of a value that is JSON, says whose it is."""
    word, escaped = "userId", b'{"\\u0075serId":"user\\u0049d","eventType":"wink"}'
    others = [
        Raw(b'{"userId": "bob", ', b"bob"),
        Raw(b'{"userId": "bob", ', None, 1),
        Raw(b'{"userId":1}', None, 2),
        Raw(b'{"userId":"userId"}', b"globex\x1fcarol"),
        Raw(b'{"userId":"userId","tenantId":"acme"}', None, 3),
        Raw(b'{"userId":"userId', b"carol"),
        Raw(b'{"payload":{"userId":"userId"},"userId":"bob"}', None, 4),
    ]
    mine = [
        Raw(b'{"userId": "userId","eventType":"wink"}', None, 1),
        Raw(b'{"payload":{"userId":"bob"},"userId":"userId"}', None, 2),
        Raw(escaped, None, 0),
        Raw(b'{"userId":"userId","eventType":"wink","unheardOf":1}', None, 5),
    ]
    of_initech = Raw(b'{"userId":"userId","eventType":"wink"}', b"initech\x1fuserId")
    produce(footfall, [*others, *mine, of_initech])
    start_projector(footfall)
    wait_until_processed(footfall, 12)
    messages = "SELECT error_message FROM read_g1.dead_letters"
    assert "unheardOf" in str(sql(footfall.servers, messages))
    found = [json.loads(line) for line in privacy(footfall, "export", word).splitlines()]
    assert sorted(one["value"] for one in found if one["kind"] == "deadLetter") == sorted(
        record.value.decode() for record in mine if record.value
    )
    assert json.loads(privacy(footfall, "erase", word, "--tenant", "globex", "--yes", "--json"))["done"]
    assert None not in letters(footfall)
    assert json.loads(privacy(footfall, "erase", word, "--tenant", "initech", "--yes", "--json"))["done"]
    emptied = (
        "SELECT told.tenant_id, kept.user_id, kept.record_key FROM read_g1.dead_letters AS kept"
        " JOIN read.dead_letters AS told USING (kafka_topic, kafka_partition, kafka_offset)"
        " WHERE kept.record_value IS NULL"
    )
    assert [tuple(row) for row in sql(footfall.servers, emptied)] == [("initech", None, b"initech\x1f")]
    assert json.loads(privacy(footfall, "erase", word, "--yes", "--json"))["done"]
    kept = letters(footfall)
    assert sorted(filter(None, kept)) == sorted(record.value for record in others if record.value)
    assert {row["tenant_id"] for row in sql(footfall.servers, emptied)} == {"initech", "default"}
    assert "unheardOf" not in str(sql(footfall.servers, messages))


def letters(footfall: Footfall) -> list[bytes | None]:
    return [row["record_value"] for row in sql(footfall.servers, "SELECT record_value FROM read_g1.dead_letters")]


USERS = 10_000 if LONG else 300
PERSON = re.compile(rb"person-\d{6}")


def person(number: int) -> str:
    return f"person-{number:06}"


def found_in(footfall: Footfall, front: Process) -> set[str]:
    """Every user whom a scan of all bytes finds: of every table, of exports, and of the front's log."""
    dumped = asyncio.run(dumps(footfall.servers.admin_url))
    exports = [httpx.get(f"{front.url}/events/processed", params={"format": kind}) for kind in ("ndjson", "csv")]
    told = [*dumped, *(answer.content for answer in exports), front.log_text().encode()]
    return {found.decode() for text in told for found in PERSON.findall(text)}


async def dumps(url: str) -> list[bytes]:
    """Every table as COPY writes it in its binary format, which holds texts and bytes as they are."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT nspname, relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
            "WHERE relkind = 'r' AND (nspname LIKE 'read%' OR nspname = 'ops') AND has_table_privilege(c.oid, 'SELECT')"
        )
        found = []
        for schema, table in tables:
            into = io.BytesIO()
            await connection.copy_from_table(table, schema_name=schema, output=into, format="binary")
            found.append(into.getvalue())
        return found
    finally:
        await connection.close()


def test_one_and_a_tenth_of_many_users_are_in_no_byte_and_every_count_is_equal(footfall: Footfall) -> None:
    """FOOTFALL_LONG=1: 1 and 1,000 of 10,000 users, each within 60 s."""
    kinds = ("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT")
    produce(
        footfall,
        [
            record_of(
                an_event(person(n % USERS), {"productId": f"p-{n % 7}", "of": person(n % USERS)}, event_type=kind)
            )
            for kind in kinds
            for n in range(USERS)
        ],
    )
    broken = encode_event(an_event(person(1))).replace(b"PRODUCT_VIEW", b"wink")
    produce(footfall, [Raw(broken, person(1).encode()), Raw(broken, None, 2)])
    start_projector(footfall)
    wait_until_processed(footfall, len(kinds) * USERS + 2, 120)
    front = footfall.start("front")
    before = counts(footfall)
    everybody = {person(n) for n in range(USERS)}
    assert found_in(footfall, front) == everybody

    gone = {person(1)}
    for more in (set(gone), {person(n) for n in range(5, USERS, 10)}):
        gone |= more
        names = "\n".join(sorted(more))
        told = json.loads(privacy(footfall, "erase", "--from-file", "-", "--yes", "--json", given=names))
        print(f"erased {len(more)} of {USERS} users with {told['events']} events in {told['seconds']:.1f} s")  # noqa: T201
        assert told["done"]
        assert told["seconds"] <= (60 if LONG else PATIENCE)
        assert found_in(footfall, front) == everybody - gone
        assert counts(footfall) == before
    if LONG and footfall.servers.files is not None:
        assert_no_file_holds_them(footfall, footfall.servers.files, gone, everybody)


def assert_no_file_holds_them(footfall: Footfall, files: Path, gone: set[str], everybody: set[str]) -> None:
    """Rewrites the log and the tables' files, and scans the bytes of both servers. The write-ahead log is no table."""
    assert gone <= in_files(files / "kafka" / "data")
    began = time.monotonic()
    for step in (("copy",), ("verify",), ("switch", "--yes"), ("finish", "--yes")):
        rewrite(footfall, *step)
        print(f"{step[0]}: {time.monotonic() - began:.1f} s since the rewrite began")  # noqa: T201
    tables = sql(footfall.servers, "SELECT relname FROM pg_class WHERE relnamespace = 'read_g1'::regnamespace "
                                   "AND relkind = 'r'")  # fmt: skip
    for (table,) in tables:
        sql(footfall.servers, f"VACUUM FULL ANALYZE read_g1.{table}")
    footfall.topic = f"{footfall.topic}.1"
    left = set(PERSON.findall(repr(bytes_of(footfall, footfall.topic)).encode()))
    assert {found.decode() for found in left} == everybody - gone
    wait_until(lambda: not gone & in_files(files / "kafka" / "data"), 90, "Kafka to delete the old topic's files")
    wait_until(lambda: not gone & in_files(files / "postgres", "base/"), 300, "PostgreSQL to delete the old files")
    print(f"no file holds them after {time.monotonic() - began:.1f} s")  # noqa: T201
    superuser = json.loads((files / "secrets.json").read_text())["superuser"]
    url = f"postgresql://postgres:{superuser}@{urlsplit(footfall.servers.admin_url).netloc.rpartition('@')[2]}/postgres"
    for statement in ("SELECT pg_switch_wal()", "CHECKPOINT"):  # what two settings do within ten minutes
        sql(replace(footfall.servers, admin_url=url), statement)
    assert not gone & in_files(files / "postgres", "pg_wal")


def in_files(folder: Path, within: str = "") -> set[str]:
    """Every user whose name stands in a file below the folder, as it is on disk."""
    found: set[bytes] = set()
    for path in [Path(at, name) for at, _, names in os.walk(folder) for name in names]:
        with contextlib.suppress(OSError):  # servers delete files meanwhile
            if path.is_file() and within in str(path.relative_to(folder)):
                found.update(PERSON.findall(path.read_bytes()))
    return {name.decode() for name in found}


def test_everything_about_a_user_is_exported_and_then_erased_by_an_operator(footfall: Footfall, tmp_path: Path) -> None:
    produce(footfall, [*a_day(100), *of_canary(12)])
    produce(footfall, letters_of_canary())
    start_projector(footfall)
    wait_until_processed(footfall, 116)

    found = [json.loads(line) for line in privacy(footfall, "export", CANARY, "--actor", "ann").splitlines()]
    kinds = Counter(document["kind"] for document in found)
    assert kinds["event"] == 12
    assert kinds["deadLetter"] == 5
    assert kinds["activity"] == kinds["end"] == kinds["about"] == 1
    assert kinds["session"] == 2
    assert found[-1]["counts"] == {kind: count for kind, count in kinds.items() if kind not in ("about", "end")}
    event = next(document["event"] for document in found if document["kind"] == "event")
    assert event["userId"] == CANARY
    assert CANARY in event["payload"]["mail"]
    assert "user-1" not in json.dumps(found)

    file = tmp_path / "report.md"
    privacy(footfall, "export", CANARY, "--format", "report", "--output", str(file))
    assert file.stat().st_mode & 0o077 == 0
    assert "## Sessions" in file.read_text()
    assert file.read_text().count("PRODUCT_VIEW  {") == 6
    privacy(footfall, "export", "nobody", code=1)

    told = json.loads(privacy(footfall, "erase", "--from-file", "-", "--yes", "--json", given=f"{CANARY}\nuser-1\n"))
    assert (told["done"], told["behind"]) == (True, [])
    assert told["events"] == 12 + 3
    assert len(told["erasures"]) == 2
    assert any(footfall.topic in sentence for sentence in told["remains"])
    assert hits(footfall, CANARY, OLD) == hits(footfall, CANARY, "ops") == {}
    actions = [row["action"] for row in sql(footfall.servers, "SELECT action FROM ops.journal ORDER BY id")]
    assert actions == ["privacy export"] * 3 + ["privacy erase"]
    [found] = map(json.loads, privacy(footfall, "export", CANARY).splitlines()[1:2])
    assert found["kind"] == "erasure"
    assert "has not passed" not in privacy(footfall, "erase", CANARY, "--yes")
    assert_an_overlooked_letter_is_not_redriven(footfall)
    replayed = CliRunner().invoke(cli, ["replay"], env={"ENVIRONMENT": "test", **footfall.environment()})
    assert "newer than this release" not in replayed.output  # a marker is no malformed event


def assert_an_overlooked_letter_is_not_redriven(footfall: Footfall) -> None:
    """A letter that the marker could not read, and that a later version can."""
    value = encode_event(an_event(CANARY)).hex()
    sql(
        footfall.servers,
        "INSERT INTO read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset, recorded_at, record_value, "
        "header_names, header_values, cause, error_class, error_message) "
        f"VALUES ('{footfall.topic}', 0, 0, now(), '\\x{value}', '{{}}', '{{}}', 'newer_version', 'X', 'x')",
    )
    dlq(footfall, "redrive", "--partition", "0")
    assert hits(footfall, CANARY, OLD) == {}
    dlq(footfall, "redrive", "--user", CANARY)
    assert hits(footfall, CANARY, "ops") == {}


def test_other_methods_are_not_allowed_and_no_user_can_be_no_name(footfall: Footfall) -> None:
    front = footfall.start("front")
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH"):
            answer = client.request(method, "/users/alice")
            assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE")
        assert client.delete("/users/%00").status_code == 400
        assert client.delete("/users/" + "a" * 257).status_code == 400
        assert client.delete("/users").status_code == 400
        assert client.delete("/users/%FF").json()["errors"] == [
            "The user id must be 1 to 256 characters without control characters, in UTF-8."
        ]
        assert client.delete("/users", params={"userId": "a/b"}).status_code == 202
        assert client.delete("/users/a%2Fb").status_code == 202
        assert client.delete("/users/alice/activity").status_code == 405
