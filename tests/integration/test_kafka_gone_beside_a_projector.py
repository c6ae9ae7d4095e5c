"""Kafka dies under a projector, for real: it says so now and then, lives on, and obeys operators."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from footfall.local.embedded import StackAddresses, StackOptions, embedded_stack
from operations.rebuild.lifecycle import SESSIONS
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate
from read_model.generations.register import projector_name
from tests import processes
from tests.processes import Process, is_ready, run_to_end, wait_until

WATCHED = 8.0  # seconds in which lines are counted
FOR_LONG = {"STARTUP_TIMEOUT_MS": "600000"}  # a start that waits for Kafka waits until it is back


def asked(url: str, query: str, *arguments: object) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    return asyncio.run(ask())


def sessions(url: str) -> object:
    """Of projectors in the generation; their pool is closed after their consumer."""
    return asked(url, SESSIONS, projector_name("read_g1"))


@contextmanager
def held(stack: StackAddresses, table: str) -> Iterator[None]:
    """Somebody reads the table in an open transaction, so that it cannot be dropped."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(stack.admin_url))
        try:
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE"))
            yield
        finally:
            runner.run(connection.close())


def rebuild(where: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    run = run_to_end("rebuild", *arguments, environment=where)
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def says(projector: Process, word: str) -> bool:
    """Whether it has logged the word; fails at once when it has ended."""
    assert projector.popen.poll() is None, projector.log_text()[-3000:]
    return word in projector.log_text()


@pytest.mark.timeout(300)
def test_a_projector_whose_kafka_died_says_so_seldom_and_leaves_a_generation_without_ending(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="footfall-") as directory,
        embedded_stack(StackOptions(Path(directory) / "state", durable=False)) as stack,
    ):
        migrate(MigrateSettings(database_url=SecretStr(stack.admin_url)))
        create_topics(TopicSettings(kafka_bootstrap_servers=stack.kafka_bootstrap))
        kafka = {"KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap}
        where, owner = {"DATABASE_URL": stack.projector_url, **kafka}, {"DATABASE_URL": stack.admin_url, **kafka}
        projectors = [processes.start("projector", where, tmp_path / "projector.log")]
        try:
            rebuild(owner, "start")
            rebuild(owner, "promote", "--force")
            wait_until(lambda: is_ready(projectors[0]), 60, "the new generation to be projected")
            os.kill(stack.kafka_pid, signal.SIGKILL)
            wait_until(lambda: says(projectors[0], "aiokafka"), 60, "it to notice")
            before = len(projectors[0].log_text().splitlines())
            time.sleep(WATCHED)
            lines = projectors[0].log_text().splitlines()[before:]
            assert len(lines) <= 5 * WATCHED, "\n".join(lines)
            with held(stack, "read_g1.user_activity"):
                assert "still uses read_g1" in rebuild(owner, "drop", code=1)
                wait_until(lambda: says(projectors[0], "generation_left"), 60, "it to obey")
                wait_until(lambda: sessions(stack.admin_url) == 0, 60, "it to have left")
                state = "SELECT state FROM ops.generations WHERE name = 'read_g1'"
                assert asked(stack.admin_url, state) == "dropping"
                meanwhile = {**where, **FOR_LONG}
                projectors += [processes.start("projector", meanwhile, tmp_path / "meanwhile.log", ready=False)]
                wait_until(lambda: says(projectors[1], "waits_for_server"), 60, "the second one to wait")
            assert "read_g1 is dropped" in rebuild(owner, "drop")
            stack.kafka.restart_ended()
            for projector in projectors:
                wait_until(lambda it=projector: is_ready(it), 60, "both to project again")  # type: ignore[misc]
            assert not says(projectors[0], "generation_failed")
            assert not says(projectors[1], "read_g1")
        finally:
            for projector in projectors:
                projector.kill()
