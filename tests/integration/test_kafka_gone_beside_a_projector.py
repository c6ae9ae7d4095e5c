"""Kafka dies under a projector, for real: it says so now and then, lives on, and obeys operators."""

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from footfall.local.embedded import StackOptions, embedded_stack
from operations.rebuild.lifecycle import SESSIONS
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate
from read_model.generations.register import projector_name
from tests import processes
from tests.processes import wait_until

WATCHED = 8.0  # seconds in which lines are counted


async def leave(url: str) -> None:
    """What `rebuild drop` and `rebuild pause` do: the projectors are to leave a generation."""
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE ops.generations SET state = 'paused'")
    await connection.close()


async def sessions(url: str) -> int:
    """Of projectors in the generation; their pool is closed after their consumer."""
    connection = await asyncpg.connect(url)
    count: int = await connection.fetchval(SESSIONS, projector_name("read_g1"))
    await connection.close()
    return count


@pytest.mark.timeout(300)
def test_a_projector_whose_kafka_died_says_so_seldom_and_leaves_a_generation_without_ending(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="footfall-") as directory,
        embedded_stack(StackOptions(Path(directory) / "state", durable=False)) as stack,
    ):
        migrate(MigrateSettings(database_url=SecretStr(stack.admin_url)))
        create_topics(TopicSettings(kafka_bootstrap_servers=stack.kafka_bootstrap))
        where = {"DATABASE_URL": stack.projector_url, "KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap}
        projector = processes.start("projector", where, tmp_path / "projector.log")
        try:
            os.kill(stack.kafka_pid, signal.SIGKILL)
            wait_until(lambda: "aiokafka" in projector.log_text(), 60, "it to notice")
            before = len(projector.log_text().splitlines())
            time.sleep(WATCHED)
            lines = projector.log_text().splitlines()[before:]
            assert len(lines) <= 5 * WATCHED, "\n".join(lines)
            asyncio.run(leave(stack.admin_url))
            wait_until(lambda: "generation_left" in projector.log_text(), 60, "it to obey")
            wait_until(lambda: asyncio.run(sessions(stack.admin_url)) == 0, 60, "it to have left")
            assert projector.popen.poll() is None, projector.log_text()[-3000:]
        finally:
            projector.kill()
