"""Fixtures: real servers for the session; a fresh topic and a fresh database for each test that asks."""

import asyncio
import contextlib
import functools
import gc
import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.configuration import set_hypothesis_home_dir
from pydantic import SecretStr
from xdist.scheduler import LoadFileScheduling

from bench.databases import drop_database
from footfall.local.embedded.paths import cache_root
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate
from tests import foreign_clients, in_memory, open_connections, processes
from tests.architecture.repository import files_beside_git
from tests.patience import PATIENCE
from tests.processes import Process
from tests.secured_broker import SecuredBroker, secured_broker
from tests.servers import Servers, at_database, chosen, servers
from tests.shared_kafka import ADDRESS, SharedKafka, beside_shared_kafka

TEMPLATE = "footfall_template"
DATABASE = "footfall_test_"  # and a number
# They ask for `secured`: one worker runs them all, because each that starts it spends 8 to 17 s of CPU.
ON_ONE_BROKER = ("test_least_rights", "test_secrets", "test_kafka_security")
# Modules that take long begin first: at the end no worker is alone with one of them.
LONGEST = (
    *ON_ONE_BROKER,
    *("test_projector_failures", "test_rebuild", "test_log_rewrite", "test_console", "test_whole_requests"),
    "test_planted_faults",
    *("test_watchdog", "test_projection_guide", "test_sealed_log", "test_up_and_demo", "test_generated_clients"),
    *("test_server_failures_are_not_the_records", "test_commands_that_fail", "test_is_projecting"),
    *("test_a_position_belongs_to_one_history", "test_archive", "test_sinks", "test_dead_letters", "test_replay"),
    *("test_three_brokers", "test_embedded_stack", "test_projector", "test_tenants", "test_keys", "test_up_secure"),
    *("test_drain", "test_erasure", "test_what_was_seen_stays_seen", "test_broker_gone", "test_cli"),
    *("test_event_pages", "test_commit", "test_foreign_http_clients", "test_framing"),
    *("test_query_side", "test_read_model_schema", "test_status", "test_kafka_gone_beside_a_projector"),
    *("test_query_openapi", "test_command_side", "test_retention", "test_connection_poolers", "test_fresh_reads"),
    *("test_partitions_added", "test_hostile_clients", "test_who_follows", "test_command_openapi"),
)
in_memory.use()

QUERY_TIMEOUT_MS = str(int(PATIENCE * 1000))  # no query is too slow unless a test is about that

set_hypothesis_home_dir(cache_root() / "hypothesis")
hypothesis_settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
hypothesis_settings.load_profile("default")

MEASURES_COVERAGE = "COVERAGE_PROCESS_CONFIG" in os.environ  # set by `--cov`, for the processes that tests start

_serial = itertools.count(1)

# In the background of a script Ctrl-C is ignored, and so it would be by every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# httpx gives up after 5 s where nobody says how long it may take.
for _wait in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _wait, PATIENCE)

# It reads every certificate authority for each client, 30 ms of CPU for each look at a process that speaks no TLS.
for _module in (httpx._config, httpx._transports.default):
    setattr(_module, "create_ssl_context", functools.cache(httpx.create_ssl_context))  # noqa: B010


# Set by CI, where nobody edits files meanwhile. Taken away: a test may run pytest in a tree that is no repository.
WATCHES_TREE = os.environ.pop("FOOTFALL_WATCH_TREE", None) is not None
_in_tree: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(open_connections)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Notes which files there are, before the first test."""
    if WATCHES_TREE and not hasattr(session.config, "workerinput"):
        _in_tree.update(files_beside_git())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run if a test has left a file in the repository."""
    if WATCHES_TREE and not hasattr(session.config, "workerinput"):
        left = sorted(files_beside_git() - _in_tree)
        if left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            raise pytest.UsageError(f"tests wrote outside their temporary folders: {', '.join(left)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_collection_finish() -> None:
    """Spares the collector what was imported and collected, which stays until the end."""
    gc.collect()
    gc.freeze()


class ByServer(LoadFileScheduling):  # type: ignore[misc]
    """Gives each worker whole modules, and all modules of `ON_ONE_BROKER` to one worker, which starts one broker."""

    def _split_scope(self, nodeid: str) -> str:
        module = super()._split_scope(nodeid)
        return ON_ONE_BROKER[0] if Path(module).stem in ON_ONE_BROKER else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    return ByServer(config, log)


_kafka = SharedKafka()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    _kafka.start()


def pytest_unconfigure() -> None:
    _kafka.end()
    in_memory.give_back()


def pytest_report_header() -> list[str]:
    return [f"servers: {chosen()}", foreign_clients.header()]


@pytest.fixture(scope="session")
def real_servers() -> Iterator[Servers]:
    """Kafka and PostgreSQL, started once; the template database is migrated once and cloned by each test."""
    # Not below pytest's own directory, which another run closes to other users: as root, PostgreSQL is one.
    with (
        tempfile.TemporaryDirectory(prefix="footfall-tests-") as directory,
        (beside_shared_kafka if ADDRESS in os.environ else servers)(Path(directory) / "state") as found,
    ):
        asyncio.run(_run_sql(found.admin_url, f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}"))
        migrate(MigrateSettings(database_url=SecretStr(at_database(found.admin_url, TEMPLATE))))
        yield found


async def _run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def new_database(real_servers: Servers) -> Callable[[], Servers]:
    """Makes a migrated, empty database and returns the servers with its URLs."""

    def make() -> Servers:
        name = f"{DATABASE}{next(_serial)}"
        asyncio.run(
            _run_sql(
                real_servers.admin_url,
                f"DROP DATABASE IF EXISTS {name}",
                f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY",
            )
        )
        return real_servers.with_database(name)

    return make


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A Kafka with TLS, passwords and rights, started once for all tests that ask for it."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as found:
        yield found


@pytest.fixture(scope="session")
def new_topic(real_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Creates a topic of its own name; `new_topic(partitions=6)`."""
    run = tmp_path_factory.getbasetemp().name

    def make(partitions: int = 6) -> str:
        name = f"user-activity-events-{run}-{next(_serial)}"
        create_topics(
            TopicSettings(
                kafka_bootstrap_servers=real_servers.kafka,
                kafka_topic=name,
                kafka_dlq_topic=f"{name}-dlq",
                kafka_audit_topic=f"{name}-audit",
                kafka_partitions=partitions,
            )
        )
        return name

    return make


class Footfall:
    """One topic and one database, and the processes that a test starts on them."""

    def __init__(self, servers: Servers, topic: str, log_dir: Path, *, dropped_by: str = "") -> None:
        """`dropped_by`: URL of the owner in another database, who gives the room of this one back at the end."""
        self.servers = servers
        self.topic = topic
        self._dropped_by = dropped_by
        self.group = f"group-of-{topic}"
        self._log_dir = log_dir
        self._processes: list[Process] = []

    def environment(self) -> dict[str, str]:
        """What every process of this instance reads, except its own role's DATABASE_URL."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.servers.kafka,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP_ID": self.group,
            "KAFKA_DLQ_TOPIC": f"{self.topic}-dlq",
            "KAFKA_AUDIT_TOPIC": f"{self.topic}-audit",
        }

    def start(self, command: str, *, ready: bool = True, module: str = "footfall", **environment: str) -> Process:
        """Starts `footfall <command>` with its own role; it ends with the test."""
        writes = command == "projector" or command.startswith("sink ")
        url = self.servers.projector_url if writes else self.servers.query_url
        log = self._log_dir / f"{command.replace(' ', '-')}-{len(self._processes)}.log"
        settings = {"DATABASE_URL": url, "QUERY_TIMEOUT_MS": QUERY_TIMEOUT_MS, **self.environment(), **environment}
        process = processes.start(command, settings, log, ready=ready, module=module)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Ends what still runs, all at once."""
        running = [process for process in self._processes if process.popen.poll() is None]
        for process in running:
            # A process that is killed reports no coverage.
            process.popen.send_signal(signal.SIGTERM if MEASURES_COVERAGE else signal.SIGKILL)
        for process in running:
            process.popen.wait(PATIENCE)
        if self._dropped_by:
            with contextlib.suppress(asyncpg.ObjectInUseError):  # a replication slot keeps it
                asyncio.run(drop_database(self._dropped_by, urlsplit(self.servers.admin_url).path[1:]))


@pytest.fixture(scope="session")
def new_footfall(
    real_servers: Servers,
    new_database: Callable[[], Servers],
    new_topic: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Footfall]:
    """Makes a Footfall of its own topic and database; close it, or use the `footfall` fixture."""

    def make(partitions: int = 6) -> Footfall:
        logs = tmp_path_factory.mktemp("logs")
        return Footfall(new_database(), new_topic(partitions), logs, dropped_by=real_servers.admin_url)

    return make


@pytest.fixture
def footfall(new_footfall: Callable[..., Footfall]) -> Iterator[Footfall]:
    """A Footfall for one test: its processes end with it."""
    instance = new_footfall()
    yield instance
    instance.close()


@pytest.fixture(scope="module")
def shared_footfall(new_footfall: Callable[..., Footfall]) -> Iterator[Footfall]:
    """A Footfall for the tests of one module that do not disturb each other."""
    instance = new_footfall()
    yield instance
    instance.close()
