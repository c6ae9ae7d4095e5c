"""The sums of exports that the query side writes into the audit log, when two flushes meet."""

import asyncio
from typing import Any

from prometheus_client import Counter

from query_side.audit.recorder import AuditRecorder
from read_model.audit import AuditEntry
from telemetry.refusals import RefusalTally


class Database:
    """Takes entries; each write ends when the test lets it."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.may_write = asyncio.Event()

    async def fetchval(self, _statement: str, *fields: Any) -> int:
        await self.may_write.wait()
        self.targets.append(fields[3])
        return len(self.targets)


async def test_two_flushes_at_once_write_each_sum_once() -> None:
    database: Any = Database()
    database.may_write.set()

    async def opened() -> Any:
        return database

    recorder = AuditRecorder(opened, RefusalTally(Counter("refused_here", "", ["reason"], registry=None)))
    for target in ("csv", "json"):
        entry = AuditEntry(actor="key:1", action="export", outcome="done", target=target)
        for _ in range(3):
            await recorder.export(entry, "request")
    database.may_write.clear()
    flushes = [asyncio.create_task(recorder.flush()) for _ in range(2)]
    await asyncio.sleep(0)
    database.may_write.set()
    await asyncio.gather(*flushes)
    assert sorted(database.targets) == ["csv", "csv; 2 more in a minute", "json", "json; 2 more in a minute"]
