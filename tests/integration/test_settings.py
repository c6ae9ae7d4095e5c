"""Settings: all problems at once, one line each, exit 1, nothing secret; `.env` in development only."""

import contextlib
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from command_side.settings import CommandSettings
from console.settings import ConsoleSettings, OwnSettings
from footfall.cli.rights.sql_prompt import SqlSettings
from footfall.processes.environment import load_settings
from footfall.processes.front import FrontSettings
from identity.settings import IdentitySettings, KeySettings
from operations.settings import ArchiveSettings, MigrateSettings, TopicSettings
from projector.settings import ProjectorSettings
from query_side.settings import QuerySettings
from sealing.settings import SealingSettings
from sinks.settings import SinkSettings
from telemetry.traces.settings import TraceSettings
from tests.processes import run_to_end
from web.transport.settings import TlsSettings

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES: list[type[BaseSettings]] = [
    IdentitySettings,
    TlsSettings,
    KeySettings,
    CommandSettings,
    QuerySettings,
    ProjectorSettings,
    MigrateSettings,
    TopicSettings,
    ArchiveSettings,
    SqlSettings,
    OwnSettings,
    FrontSettings,
    TraceSettings,
    SealingSettings,
    SinkSettings,
]
SECRET = "hunter2"
COMMANDS = {
    "command-side": {"PUBLISH_RETRIES": "many", "KAFKA_COMPRESSION": SECRET, "PORT": "99999"},
    "query-side": {"DATABASE_URL": "", "QUERY_POOL_SIZE": "1", "MAX_EXPORTS": "0", "LOG_LEVEL": "loud"},
    "projector": {"BATCH_MAX_RECORDS": "0", "START_FROM": SECRET, "PROJECTOR_LANES": "9"},
    "topics create": {"KAFKA_PARTITIONS": "0", "KAFKA_REPLICATION_FACTOR": "x", "KAFKA_SECURITY_PROTOCOL": SECRET},
}


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory and an environment without any of Footfall's variables."""
    for kind in CLASSES:
        for name in kind.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def footfall(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return run_to_end(*arguments, environment=environment, cwd=cwd)


def test_up_tells_what_is_wrong_with_the_catalogue_before_it_starts_a_server(clean: Path) -> None:
    (clean / "types.toml").write_text('[purchase]\ndescription = "A user buys."\n')
    run = footfall("up", cwd=clean, EVENT_TYPES_FILE="types.toml")
    assert (run.returncode, run.stdout) == (1, "")
    assert "the catalogue of event types types.toml is not usable:\n  [purchase]: a name is 1 to 64" in run.stderr
    assert [path.name for path in clean.iterdir()] == ["types.toml"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_names_every_wrong_setting_at_once_and_exits_1(clean: Path, command: str) -> None:
    wrong = COMMANDS[command]
    run = footfall(*command.split(), cwd=clean, **wrong, KAFKA_SASL_PASSWORD=SECRET)
    assert run.returncode == 1
    assert run.stdout == ""
    first, *lines = run.stderr.splitlines()
    assert first == "footfall: the settings are not usable (see .env.example):"
    named = [re.fullmatch(r"  ([A-Z_]+): (\S.*)", line) for line in lines]
    assert all(named)
    expected = {name for name in wrong if name != "DATABASE_URL"}
    if command == "projector":
        expected.add("DATABASE_URL")  # it is required, and not set
    assert expected <= {match[1] for match in named if match} <= expected | {"DATABASE_URL"}
    assert SECRET not in run.stderr


def test_the_front_names_the_wrong_settings_of_both_sides_at_once(clean: Path) -> None:
    run = footfall("front", cwd=clean, PUBLISH_RETRIES="many", QUERY_POOL_SIZE="1")
    assert run.returncode == 1
    assert {line.split(":")[0].strip() for line in run.stderr.splitlines()[1:]} == {
        "PUBLISH_RETRIES",
        "QUERY_POOL_SIZE",
        "DATABASE_URL",
    }


def test_what_is_required_is_said_to_be_missing(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_settings(QuerySettings)
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[1:] == ["  DATABASE_URL: is not set, and it has no default"]


def test_an_environment_that_does_not_exist_is_refused(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "staging")
    with pytest.raises(SystemExit) as ended:
        load_settings(CommandSettings)
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  ENVIRONMENT: 'staging' is not one of development, test, production"
    ]


@pytest.mark.parametrize(("environment", "port"), [("development", 4321), ("test", 3001), ("production", 3001)])
def test_the_file_env_is_read_in_development_only(
    clean: Path, monkeypatch: pytest.MonkeyPatch, environment: str, port: int
) -> None:
    (clean / ".env").write_text("PORT=4321\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("ENVIRONMENT", environment)
    monkeypatch.setenv("KAFKA_ALLOW_PLAINTEXT", "true")
    assert load_settings(CommandSettings).port == port


def test_overrides_come_before_the_environment_and_the_environment_before_the_file(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clean / ".env").write_text("PORT=1\nHOST=file\nKAFKA_TOPIC=file\n")
    monkeypatch.setenv("ENVIRONMENT", "development")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("HOST", "environment")
    settings = load_settings(CommandSettings, port=3, host=None)
    assert (settings.port, settings.host, settings.kafka_topic) == (3, "environment", "file")


def test_production_refuses_to_watch_processes_in_the_clear_unless_they_are_here_or_it_is_said(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d?sslmode=disable")
    monkeypatch.setenv("ENVIRONMENT", "production")
    here = "http://127.0.0.1:3001,http://[::1]:3002,http://localhost:3003,https://projector:3003"
    monkeypatch.setenv("CONSOLE_WATCH_URLS", here)
    assert len(load_settings(ConsoleSettings).watched()) == 4
    monkeypatch.setenv("CONSOLE_WATCH_URLS", f"{here},http://projector:3003,http://10.0.0.7:3002")
    with pytest.raises(SystemExit):
        load_settings(ConsoleSettings)
    assert "CONSOLE_WATCH_URLS: what projector:3003, 10.0.0.7:3002 tells" in capsys.readouterr().err
    monkeypatch.setenv("CONSOLE_WATCH_ALLOW_PLAINTEXT", "true")
    assert len(load_settings(ConsoleSettings).watched()) == 6


@pytest.mark.parametrize(
    ("secret", "is_taken"),
    [
        ("", True),  # there is none
        ("0123456789abcdef0123456789abcdef", True),  # 32 hexadecimal digits: 128 bits
        ("0123456789abcdef0123456789abcde", False),
        ("q3Zt9Lk2Xw8Vb5Nc1Md7Rf", True),  # 22 letters and digits: 131 bits
        ("q3Zt9Lk2Xw8Vb5Nc1Md7R", False),
        ("a secret of these tests", True),  # nobody sees how it was chosen
        ("abababababababababababababababababababababababab", False),
        ("passwordpassword", False),
    ],
)
def test_production_refuses_a_key_of_cursors_that_can_be_guessed(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str, is_taken: bool
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d?sslmode=disable")
    for name in ("CURSOR_SECRET", "POSITION_SECRET", "CURSOR_SECRET_ALSO"):
        monkeypatch.setenv(name, secret)
        monkeypatch.setenv("ENVIRONMENT", "test")
        load_settings(QuerySettings)
        monkeypatch.setenv("ENVIRONMENT", "production")
        with contextlib.nullcontext() if is_taken else pytest.raises(SystemExit):
            load_settings(QuerySettings)
        said = capsys.readouterr().err
        assert (f"  {name}: it can be guessed" in said) is not is_taken
        assert not secret or secret not in said
        monkeypatch.delenv(name)


def test_secrets_do_not_show(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@h/d")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    for kind in CLASSES:
        settings = load_settings(kind)
        assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_settings_cannot_be_changed(clean: Path) -> None:
    settings = load_settings(CommandSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def documented() -> list[tuple[str, str, str]]:
    """(variable, value, comment above it) of each entry in `.env.example`."""
    found, comment = [], ""
    for line in (REPOSITORY / ".env.example").read_text().splitlines():
        if match := re.fullmatch(r"#?([A-Z0-9_]+)=(.*)", line):
            found.append((match[1], match[2], comment))
            comment = ""
        else:
            comment = f"{comment} {line.lstrip('# ')}".strip() if line else ""
    return found


@pytest.mark.parametrize("kind", CLASSES)
def test_env_example_documents_every_variable_with_its_default(kind: type[BaseSettings]) -> None:
    entries = documented()
    for name, field in kind.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        described = [(value, comment) for variable, value, comment in entries if variable == name.upper() and comment]
        assert described, f"{name.upper()} is missing from .env.example, or has no comment"
        assert any(str(field.description) in comment for _, comment in described), name.upper()
        if not field.is_required():
            written = "" if default is None else str(default)
            assert written in [value for value, _ in described], f"{name.upper()} has another default"


def test_env_example_documents_nothing_that_is_not_read() -> None:
    read = {name.upper() for kind in CLASSES for name in kind.model_fields} | {"ENVIRONMENT"}
    assert {variable for variable, _, _ in documented()} == read


def test_env_example_is_a_usable_env_file(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    (clean / ".env").write_text("\n".join(re.sub(r"^#(?=[A-Z0-9_]+=)", "", line) for line in lines))
    monkeypatch.setenv("ENVIRONMENT", "development")
    for kind in CLASSES:
        assert load_settings(kind)
