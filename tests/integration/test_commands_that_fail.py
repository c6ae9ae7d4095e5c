"""Every command of the command line, enumerated, when a server is away, goes or refuses; and what it never shows."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import rich_click as click

from footfall.cli.main import cli
from tests.drivers.every_command import (
    ARCHIVE,
    ARGUMENTS,
    ASKING_NOBODY,
    FIRST,
    KAFKA_ALONE,
    OPERATORS,
    PROCESSES,
    REPORTS,
    SECOND,
    WHOLE_STACKS,
    WITH_DATABASE,
    assert_a_sentence,
    ends,
    footfall,
    urls,
)
from tests.ports import free_port
from tests.servers import Servers
from tests.tcp_proxy import TcpProxy, tcp_proxy


def leaves(group: click.Group, *path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield " ".join((*path, name))


def test_every_command_is_known_here() -> None:
    assert set(leaves(cli)) == {*ARGUMENTS, *PROCESSES, *WHOLE_STACKS, *REPORTS, *ASKING_NOBODY, *ARCHIVE}


@pytest.mark.parametrize("command", WITH_DATABASE)
def test_a_url_with_a_raw_password_is_refused_without_a_piece_of_it(command: str) -> None:
    for character in "/#?%:@[]\\ \n\t&=+":
        for password in (f"{FIRST}{character}{SECOND}", f"{character}{FIRST}{character}{SECOND}{character}"):
            for url in (
                f"postgresql://user:{password}@127.0.0.1:{{}}/x",
                f"postgresql://user@127.0.0.1:port{password}/x",
                f"postgresql://user:{password}@/x?{FIRST}=1",
            ):
                if ends(command, url.format(1)):
                    assert_a_sentence(footfall(command, **urls(url.format(1))))


@pytest.mark.parametrize("command", WITH_DATABASE)
def test_a_parameter_that_cannot_be_used_is_refused_by_its_name(command: str) -> None:
    for parameter in ("application_name=x", "sslrootcert=system", "channel_binding=require", "sslmode=never"):
        run = footfall(command, **urls(f"postgresql://user:{FIRST}@127.0.0.1:1/x?{parameter}"))
        assert_a_sentence(run, f"the parameter {parameter.partition('=')[0]} ", "DATABASE_URL")


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Servers]) -> Servers:
    return new_database()


@pytest.fixture(scope="module")
def awful(database: Servers) -> Iterator[tuple[str, str]]:
    """A role that writes, and its password of everything that a URL gives a meaning to."""
    password = f"/#?%41:@[]\\ &=+'\"{FIRST}é"

    async def run(*statements: str) -> None:
        connection = await asyncpg.connect(database.admin_url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    literal = password.replace("'", "''")
    asyncio.run(run(f"CREATE ROLE awful LOGIN PASSWORD '{literal}' IN ROLE footfall_writer"))
    yield "awful", password
    asyncio.run(run("DROP ROLE awful"))


def test_an_escaped_password_and_the_parameters_of_libpq_work_in_every_command(
    database: Servers, awful: tuple[str, str], new_topic: Callable[..., str]
) -> None:
    topic = new_topic(1)
    at = urlsplit(database.admin_url)
    login = f"{awful[0]}:{quote(awful[1], safe='')}"
    everything = "sslmode=prefer&connect_timeout=20&target_session_attrs=read-write&options=-c%20work_mem%3D5MB"
    url = f"postgresql://{login}@127.0.0.1:{free_port()},127.0.0.1:{at.port}{at.path}?{everything}"
    environment = {**urls(url), "KAFKA_BOOTSTRAP_SERVERS": database.kafka, "KAFKA_TOPIC": topic}
    as_owner = f"{database.admin_url}?{everything}"
    for command in ("status", "dlq list", "dlq redrive", "rebuild status", "migrate"):
        run = footfall(command, **{**environment, **(urls(as_owner) if command == "migrate" else {})})
        assert run.exit_code in (0, 1), run.output
        assert not run.stderr, run.stderr
        assert FIRST not in run.output
    assert_a_sentence(footfall("sql", **environment), "may do more")  # it has connected, and looked at the role
    assert_a_sentence(footfall("rebuild drop", **environment), "permission denied")  # as far as this role may go
    no_tls = url.replace("sslmode=prefer", "sslmode=require")
    for command in OPERATORS:
        assert_a_sentence(footfall(command, **{**environment, **urls(no_tls)}), "SSL")


@pytest.mark.parametrize("command", OPERATORS)
def test_without_postgresql_it_is_one_sentence(database: Servers, command: str) -> None:
    url = f"postgresql://user:{FIRST}@127.0.0.1:{free_port()}/x"
    assert_a_sentence(footfall(command, **urls(url), KAFKA_BOOTSTRAP_SERVERS=database.kafka), "onnect")


@pytest.mark.parametrize(
    "command", [*(name for name in KAFKA_ALONE if name != "command-side"), "status", "rebuild start", "rebuild status"]
)
def test_without_kafka_it_is_one_sentence(database: Servers, command: str) -> None:
    environment = {**urls(database.admin_url), "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    assert_a_sentence(footfall(command, **environment), "Kafka")


@pytest.mark.parametrize("command", ARCHIVE)
def test_without_an_archive_it_is_one_sentence(command: str) -> None:
    assert_a_sentence(footfall(command, **urls(f"postgresql://user:{FIRST}@127.0.0.1/x")), "ARCHIVE_LOCATION")


@pytest.fixture(scope="module")
def proxy(database: Servers) -> Iterator[TcpProxy]:
    at = urlsplit(database.admin_url)
    with tcp_proxy(str(at.hostname), at.port or 5432) as found:
        yield found


@pytest.mark.parametrize("command", OPERATORS)
def test_a_database_that_goes_in_the_middle_is_one_sentence(
    database: Servers, proxy: TcpProxy, new_topic: Callable[..., str], command: str
) -> None:
    reached = {"migrate": b"footfall_migrations", "grant-reporter": b"reporting", "sql": b"current_user"}
    reached |= dict.fromkeys(("audit list", "audit verify"), b"ops.audit")
    reached |= dict.fromkeys((name for name in OPERATORS if name.startswith("privacy retention")), b"ops.retention")
    reached |= dict.fromkeys((name for name in OPERATORS if name.startswith("privacy rewrite")), b"ops.log_rewrites")
    reached["privacy rewrite plan"] = b"LOCK TABLE ops.journal"
    proxy.lose_answer_to(reached.get(command, b"ops.generations"))
    environment = {**urls(proxy.in_front_of(database.admin_url)), "KAFKA_BOOTSTRAP_SERVERS": database.kafka}
    ask_kafka_first = ("gaps", "privacy erase", "privacy rewrite")
    topic = new_topic(1) if command.startswith(ask_kafka_first) else "whatever"
    run = footfall(command, **environment, KAFKA_TOPIC=topic)
    assert proxy.answer_lost.is_set(), run.output
    assert_a_sentence(run)


@pytest.mark.parametrize("command", [name for name in OPERATORS if name not in ("status", "sql", "rebuild status")])
def test_a_role_that_may_not_is_one_sentence(database: Servers, new_topic: Callable[..., str], command: str) -> None:
    environment = {**urls(database.query_url), "KAFKA_BOOTSTRAP_SERVERS": database.kafka}
    assert_a_sentence(footfall(command, **environment))


def test_without_settings_operators_are_led_to_what_runs_here(tmp_path: Path) -> None:
    for command in OPERATORS:
        said = assert_a_sentence(footfall(command, "--state-dir", str(tmp_path / "none")), "DATABASE_URL is not set")
        assert "--state-dir" in said
        assert "footfall up" in said


def test_what_nobody_foresaw_is_one_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(FIRST)

    monkeypatch.setattr("operations.setup.migrate", broken)
    run = footfall("migrate", DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")
    assert_a_sentence(run, "ZeroDivisionError", "FOOTFALL_TRACEBACK=1")
