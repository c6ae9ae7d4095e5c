"""The console beside processes that answer slowly, wrongly, too much or not at all: it says so, and sees the others."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from console.looking import watch
from console.looking.scrape import LARGEST, ProcessSeen, Scraper
from console.looking.watch import Watch
from operations.doctor.findings import Finding
from projector.settings import ProjectorSettings
from tests.patience import PATIENCE, patient
from tests.ports import free_port

WELL = b'certificate_end_timestamp_seconds 0.0\npartitions_owned{generation="read_g1"} 6.0\n'
# Name, the bytes of the answer in turn (None: a pause of 0.2 s, again and again), and what is said of the process.
ODD: Mapping[str, tuple[tuple[bytes | None, ...], str]] = {
    "silent": ((None,), "it does not answer in time"),
    "drop by drop": ((b"HTTP/1.1 200 OK\r\n\r\n", b"#", None), "it does not answer in time"),
    "an error": ((b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",), "its /metrics answers 500"),
    "moved": ((b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",), "its /metrics answers 302"),
    "cut": ((b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + WELL,), "it cannot be reached (RemoteProtocolError)"),
    "no HTTP": ((b"SSH-2.0-OpenSSH_9.2\r\n",), "it cannot be reached (RemoteProtocolError)"),
    "another program": ((b"HTTP/1.1 200 OK\r\n\r\n<html>Welcome</html>",), "its /metrics has nothing of Footfall"),
    "no exposition": (
        (b"HTTP/1.1 200 OK\r\n\r\n" + WELL + b"streams_open{a=b 1 2 3\n",),
        "its /metrics cannot be read",
    ),
    "no number": ((b"HTTP/1.1 200 OK\r\n\r\n" + WELL + b"streams_open many\n",), "its /metrics cannot be read"),
    "no bound": (
        (b"HTTP/1.1 200 OK\r\n\r\n" + WELL + b'publish_round_seconds_bucket{to="1"} 1\n',),
        "its /metrics cannot be read",
    ),
    "too much": ((b"HTTP/1.1 200 OK\r\n\r\n" + WELL, b"# x\n" * (LARGEST // 4)), "its /metrics is larger than"),
    "not our key": ((b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",), ""),
}


@asynccontextmanager
async def answering(parts: Sequence[bytes | None]) -> AsyncIterator[str]:
    """A server that answers every request so; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")  # else the end is a reset
            for part in parts:
                if part is not None:
                    writer.write(part)
                    await writer.drain()
            while parts[-1] is None:
                await asyncio.sleep(0.2)  # the pace of the server
                if len(parts) > 1:
                    writer.write(parts[-2] or b"")
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_each_odd_process_is_named_and_hides_no_other() -> None:
    async with AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(answering(parts)) for name, (parts, _) in ODD.items()}
        urls |= {"away": f"http://127.0.0.1:{free_port()}"}
        good = await stack.enter_async_context(answering([b"HTTP/1.1 200 OK\r\n\r\n" + WELL]))
        scraper = Scraper([*urls.values(), good], "", "")
        stack.push_async_callback(scraper.close)
        began = time.monotonic()
        *odd, well = await scraper.look()
        assert time.monotonic() - began < patient(3)
        said = {name: seen.problem for name, seen in zip(urls, odd, strict=True)}
        expected = {name: says for name, (_, says) in ODD.items()} | {"away": "it cannot be reached (ConnectError)"}
        assert {name: says[: len(expected[name]) or None] for name, says in said.items()} == expected
        assert (well.problem, well.total("partitions_owned")) == ("", 6)


class Processes:
    """A scraper of processes that are there until they are not."""

    def __init__(self) -> None:
        self.problem = ""
        self.fails = False

    async def look(self) -> list[ProcessSeen]:
        if self.fails:
            raise RuntimeError("planted")
        return [ProcessSeen("http://side", self.problem)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def watching(monkeypatch: pytest.MonkeyPatch, processes: Processes) -> AsyncIterator[Watch]:
    """A console's look at these processes and at servers that are away, at a quick pace."""
    for name, seconds in {"LOOK": 0.05, "EXAMINE": 0.05}.items():
        monkeypatch.setattr(watch, name, seconds)
    settings: Any = ProjectorSettings(
        database_url=f"postgresql://a:b@127.0.0.1:{free_port()}/c",  # type: ignore[arg-type]
        kafka_bootstrap_servers=f"127.0.0.1:{free_port()}",
    )
    found = Watch(settings, None, processes)  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE), found.running():
        yield found


async def until(found: Watch, says: str) -> None:
    while not any(says in each.says for each in found.viewed().findings):  # noqa: ASYNC110 - it is looked at again and again
        await asyncio.sleep(0.02)


async def test_an_examination_that_takes_long_holds_up_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes()

    async def hangs(*_: Any) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(watch, "examine", hangs)
    async with watching(monkeypatch, processes) as found:
        processes.problem = "it does not answer in time"
        await until(found, "it does not answer in time")


async def test_an_examination_that_does_not_end_is_a_finding_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = asyncio.Event()

    async def examined(*_: Any) -> list[Finding]:
        await quick.wait()
        return [Finding("Kafka", "well", "1 brokers answer.")]

    monkeypatch.setattr(watch, "examine", examined)
    monkeypatch.setattr(watch, "EXAMINING", 0.05)
    async with watching(monkeypatch, Processes()) as found:
        await until(found, "The last examination did not end: TimeoutError.")
        assert found.seen.verdict() == "unknown"
        quick.set()
        await until(found, "1 brokers answer.")
        assert found.seen.verdict() == "well"


async def test_what_was_seen_before_is_not_shown_as_now_when_looks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def well(*_: Any) -> list[Finding]:
        return [Finding("Kafka", "well", "1 brokers answer.")]

    monkeypatch.setattr(watch, "examine", well)
    processes = Processes()
    async with watching(monkeypatch, processes) as found:
        await until(found, "1 brokers answer.")
        assert found.seen.verdict() == "well"
        processes.fails = True
        await until(found, "The last look did not end: RuntimeError: planted.")
        assert (found.seen.verdict(), found.seen.status) == ("unknown", None)
        processes.fails = False
        while found.seen.verdict() != "well":  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
