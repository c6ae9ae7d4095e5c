"""Secrets come from files and reach no output; they can be changed without losing an event."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

from brokers.rights import AUDIT, DEAD_LETTERS, EVENTS, GROUP, least_rights
from command_side.settings import CommandSettings
from footfall.local.embedded.kafka.accounts import rules_of, set_password
from footfall.processes.environment import load_settings
from footfall.processes.secrets.secret_files import FileSecret, secret_names
from projector.settings import ProjectorSettings
from query_side.settings import QuerySettings
from read_model.connecting.database_url import ChangedUrlError
from read_model.connecting.pool import open_pool
from read_model.connecting.unavailable import NOT_YET_THERE
from tests.drivers.every_command import WITH_DATABASE, assert_a_sentence, ends, footfall
from tests.patience import PATIENCE
from tests.processes import start, wait_until
from tests.secured_broker import SecuredBroker
from tests.servers import Servers

URL = "postgresql://user:Sesame1@127.0.0.1:1/x"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_every_secret_comes_from_a_file_that_is_named_or_from_the_directory(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "database_url").write_text(f"{URL}\n")
    (tmp_path / "secrets" / "KAFKA_SASL_PASSWORD").write_text("from the directory, with a space \n")
    (tmp_path / "named").write_text("a secret that a file holds\n")
    clean.setenv("SECRETS_DIR", str(tmp_path / "secrets"))
    clean.setenv("CURSOR_SECRET_FILE", str(tmp_path / "named"))
    assert load_settings(QuerySettings).cursor_secret.get_secret_value() == "a secret that a file holds"
    assert load_settings(ProjectorSettings).database_url.get_secret_value() == URL
    assert load_settings(CommandSettings).kafka_sasl_password.get_secret_value() == "from the directory, with a space "
    clean.setenv("KAFKA_SASL_PASSWORD", "from the environment")
    assert load_settings(CommandSettings).kafka_sasl_password.get_secret_value() == "from the environment"
    assert {"database_url", "cursor_secret", "position_secret"} <= set(secret_names(QuerySettings))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "it is empty"),
        (b"\xff", "it is not UTF-8"),
        (b"x" * 70_000, "larger"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    clean: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    clean.setenv("CURSOR_SECRET_FILE", str(tmp_path / "secret"))
    clean.setenv("DATABASE_URL", URL)
    with pytest.raises(SystemExit):
        load_settings(QuerySettings)
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith(f"  CURSOR_SECRET: the file {tmp_path / 'secret'} cannot be used: ")
    assert said in line


def test_production_takes_no_file_that_everybody_may_write(
    clean: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(f"{URL}?sslmode=disable")
    clean.setenv("DATABASE_URL_FILE", str(tmp_path / "secret"))
    for environment, mode, is_taken in (
        ("production", 0o644, True),
        ("test", 0o666, True),
        ("production", 0o602, False),
    ):
        (tmp_path / "secret").chmod(mode)
        clean.setenv("ENVIRONMENT", environment)
        with contextlib.nullcontext() if is_taken else pytest.raises(SystemExit):
            load_settings(QuerySettings)
        assert ("DATABASE_URL: everybody may write its file" in capsys.readouterr().err) is not is_taken


def test_a_secret_that_is_given_twice_is_refused(
    clean: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean.setenv("DATABASE_URL", URL)
    clean.setenv("DATABASE_URL_FILE", str(tmp_path / "secret"))
    with pytest.raises(SystemExit):
        load_settings(QuerySettings)
    said = capsys.readouterr().err
    assert "DATABASE_URL: it is set, and DATABASE_URL_FILE as well" in said
    assert "Sesame1" not in said


def test_a_malformed_url_in_a_file_reaches_no_output(tmp_path: Path) -> None:
    file = tmp_path / "url"
    for command in WITH_DATABASE:
        for character in "/#?%@[]":
            url = f"postgresql://user:Sesame1{character}Sesame2@127.0.0.1:1/x"
            if not ends(command, url):
                continue
            file.write_text(url)
            assert_a_sentence(footfall(command, DATABASE_URL_FILE=str(file), REPORTING_DATABASE_URL_FILE=str(file)))


def test_passwords_change_between_single_events_and_none_is_lost(
    secured: SecuredBroker, new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    """Processes go on over open connections; each restart brings the new password, and nothing is missing."""
    names = {EVENTS: "rotating", DEAD_LETTERS: "rotating-dlq", GROUP: "rotating", AUDIT: "rotating-audit"}
    servers = new_database()
    parts = ("`topics create`", "command side", "projector")
    user = secured.user("rotator", *rules_of("rotator", [each for part in parts for each in least_rights(part, names)]))
    user |= names | {"DATABASE_URL": servers.projector_url}
    assert footfall("topics create", **user).exit_code == 0
    sides = [start("command-side", user, tmp_path / f"side-{n}.log") for n in range(2)]
    projector = start("projector", user, tmp_path / "projector.log")
    accepted: list[str] = []
    new_url = ""

    def post(index: int) -> None:
        answer = httpx.post(f"{sides[index].url}/events/generate", json={"userId": "u", "eventType": "LOGIN"})
        assert answer.status_code == 201, answer.text
        accepted.append(answer.json()["event"]["eventId"])

    def wait_for_all(by: str) -> None:
        wait_until(lambda: asyncio.run(stored(servers)) == len(accepted), 60, f"every event, by {by}")

    try:
        post(0)
        wait_for_all("a projector that has claimed its partitions")
        changed = {**user, "KAFKA_SASL_PASSWORD": "another/pass#word"}
        asyncio.run(set_password(secured.options, "rotator", changed["KAFKA_SASL_PASSWORD"]))
        for index in range(2):  # one after the other: the other one serves
            post(1 - index)
            assert sides[index].terminate() == 0
            post(1 - index)
            sides[index] = start("command-side", changed, tmp_path / f"side-again-{index}.log")
            post(index)
        password = "new" + "1" * 20
        new_url = with_password(servers.projector_url, password)
        asyncio.run(change_password(servers.projector_url, password))
        post(0)
        wait_for_all("a projector that was told of neither password")
        assert projector.terminate() == 0
        post(1)
        projector = start("projector", {**changed, "DATABASE_URL": new_url}, tmp_path / "projector-again.log")
        wait_for_all("the next projector")
    finally:
        if new_url:
            asyncio.run(change_password(new_url, password_of(servers.projector_url)))
        for process in (*sides, projector):
            process.popen.kill()
            process.popen.wait(PATIENCE)


def test_passwords_that_change_in_their_files_need_no_restart(
    secured: SecuredBroker, new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    """A projector that has claimed nothing yet must open all that projecting needs, by passwords that came later."""
    servers, role_url = new_database(), ""
    password, database = tmp_path / "kafka-password", tmp_path / "database-url"
    names = {EVENTS: "following", DEAD_LETTERS: "following-dlq", GROUP: "following", AUDIT: "following-audit"}
    parts = ("`topics create`", "command side", "projector")
    user = secured.user(
        "follower", *rules_of("follower", [each for part in parts for each in least_rights(part, names)])
    )
    replace(password, user.pop("KAFKA_SASL_PASSWORD"))
    replace(database, servers.projector_url)
    user |= names | {"KAFKA_SASL_PASSWORD_FILE": str(password), "DATABASE_URL_FILE": str(database)}
    assert footfall("topics create", **user, KAFKA_PARTITIONS="1").exit_code == 0
    running = [start("command-side", user, tmp_path / "side.log"), start("projector", user, tmp_path / "claimed.log")]
    side, claimed = running
    accepted: list[str] = []

    def post_and_wait(by: str) -> None:
        answer = httpx.post(f"{side.url}/events/generate", json={"userId": "u", "eventType": "LOGIN"})
        assert answer.status_code == 201, answer.text
        accepted.append(answer.json()["event"]["eventId"])
        wait_until(lambda: asyncio.run(stored(servers)) == len(accepted), 60, f"every event, by {by}")

    try:
        post_and_wait("the first projector")
        running.append(start("projector", user, tmp_path / "waiting.log"))
        asyncio.run(set_password(secured.options, "follower", "another/pass#word"))
        replace(password, "another/pass#word\n")
        role_url = with_password(servers.projector_url, "new" + "2" * 20)
        asyncio.run(change_password(servers.projector_url, password_of(role_url)))
        replace(database, role_url)
        assert claimed.terminate() == 0
        post_and_wait("the projector that had claimed nothing when the passwords changed")
        asyncio.run(end_sessions(role_url))
        post_and_wait("the same one, whose sessions have ended")
    finally:
        if role_url:
            asyncio.run(change_password(role_url, password_of(servers.projector_url)))
        for process in running:
            process.popen.kill()
            process.popen.wait(PATIENCE)


def test_a_secret_follows_its_file_and_keeps_what_could_be_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    replace(file, "first\n")
    secret = FileSecret(file)
    replace(file, "second")
    assert secret.get_secret_value() == "second"
    for unusable in (b"", b"\xff", b"x" * 70_000):
        file.write_bytes(unusable)
        assert secret.get_secret_value() == "second"
    file.unlink()
    assert secret.get_secret_value() == "second"
    replace(file, "third")
    assert secret.get_secret_value() == "third"
    assert "third" not in repr(secret) + str(secret)


async def test_a_url_that_becomes_unusable_is_a_server_that_is_away(tmp_path: Path, real_servers: Servers) -> None:
    file = tmp_path / "url"
    replace(file, real_servers.query_url)
    url = FileSecret(file)
    pool = await open_pool(url, application="test", min_size=0, max_size=1)
    try:
        await pool.fetchval("SELECT 1")
        await pool.expire_connections()
        replace(file, f"{real_servers.query_url}#Sesame1")
        with pytest.raises(ChangedUrlError, match="has a #") as refused:
            await pool.fetchval("SELECT 1")
        assert isinstance(refused.value, NOT_YET_THERE)
        assert "Sesame1" not in str(refused.value)
        replace(file, real_servers.query_url)
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        pool.terminate()


def replace(file: Path, content: str) -> None:
    """As an agent replaces a file: by a rename, so that nobody reads a half."""
    new = file.with_suffix(".new")
    new.write_text(content)
    new.replace(file)


async def end_sessions(url: str) -> None:
    """Ends every other session of the role, in its database."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user "
        "AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


def password_of(url: str) -> str:
    return url.split("@", maxsplit=1)[0].rpartition(":")[2]


def with_password(url: str, password: str) -> str:
    return url.replace(f":{password_of(url)}@", f":{password}@")


async def change_password(url: str, password: str) -> None:
    """As the role itself."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"ALTER ROLE current_user PASSWORD '{password}'")
    await connection.close()


async def stored(servers: Servers) -> int:
    connection = await asyncpg.connect(servers.admin_url)
    count: int = await connection.fetchval("SELECT count(*) FROM read.processed_events")
    await connection.close()
    return count
