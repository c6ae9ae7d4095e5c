"""The sums of exports that the query side writes into the audit log, when two flushes meet, or one fails."""

import asyncio
from typing import Any

import asyncpg
import pytest
from prometheus_client import Counter

from query_side.audit.recorder import AuditRecorder
from read_model.audit import AuditEntry
from telemetry.refusals import RefusalTally


class Database:
    """Takes entries; each write ends when the test lets it."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.refuses = False

    async def fetchval(self, _statement: str, *fields: Any) -> int:
        await self.may_write.wait()
        if self.refuses:
            raise asyncpg.LockNotAvailableError
        self.targets.append(fields[3])
        return len(self.targets)


def recorder_of(database: Any) -> AuditRecorder:
    async def opened() -> Any:
        return database

    return AuditRecorder(opened, RefusalTally(Counter("refused_here", "", ["reason"], registry=None)))


def export_to(target: str) -> AuditEntry:
    return AuditEntry(actor="key:1", action="export", outcome="done", target=target)


async def test_two_flushes_at_once_write_each_sum_once() -> None:
    database = Database()
    recorder = recorder_of(database)
    for target in ("csv", "json") * 3:
        await recorder.export(export_to(target), "request")
    database.may_write.clear()
    flushes = [asyncio.create_task(recorder.flush()) for _ in range(2)]
    await asyncio.sleep(0)
    database.may_write.set()
    await asyncio.gather(*flushes)
    assert sorted(database.targets) == ["csv", "csv; 2 more in a minute", "json", "json; 2 more in a minute"]


async def test_no_export_is_let_out_before_the_sums_of_the_last_minute_are_written() -> None:
    database = Database()
    recorder = recorder_of(database)
    for _ in range(3):
        await recorder.export(export_to("csv"), "request")
    database.refuses = True
    with pytest.raises(asyncpg.LockNotAvailableError):
        await recorder.flush()
    for _ in range(3):
        with pytest.raises(asyncpg.LockNotAvailableError):  # answered with 503, as for every query
            await recorder.export(export_to("csv"), "request")
    database.refuses = False
    await recorder.export(export_to("csv"), "request")
    assert database.targets == ["csv", "csv; 2 more in a minute", "csv"]
