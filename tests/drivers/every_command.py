"""Every command of the command line, and how a test runs one in its own process."""

from click.testing import CliRunner, Result

from footfall.cli.main import cli
from read_model.connecting.database_url import DatabaseUrlError, parse

# What each command needs to be called at all. A new command belongs here, too: the first test says so.
PROCESSES = ("command-side", "query-side", "front", "projector", "console", "sink")
WHOLE_STACKS = ("up", "demo")
OF_OTHERS = {"sink": ("duckdb",), "archive rewrite": ("--yes",)}  # what these need to be called at all
ASKING_NOBODY = ("plan",)
# Without an archive, these end before all else.
ARCHIVE = (
    "archive restore",
    "archive rewrite",
    "archive run",
    "archive verify",
)
ARGUMENTS = {
    "dlq list": (),
    "dlq show": ("t", "0", "0"),
    "dlq redrive": (),
    "audit list": (),
    "audit verify": (),
    "dlq discard": ("--yes", "--user", "u"),
    "gaps accept": ("--yes",),
    "gaps accept-history": ("--yes",),
    "gaps accept-position": ("0", "0", "--yes"),
    "gaps list": (),
    "grant-reporter": ("reporter_x",),
    "keys create": ("--kind", "secret", "--name", "n", "--tenant", "default"),
    "keys list": (),
    "keys revoke": ("k",),
    "keys rotate": ("k",),
    "migrate": (),
    "privacy erase": ("--yes", "u"),
    "privacy export": ("u",),
    "privacy forget-months": ("--before", "2020-01", "--yes"),
    "privacy give-up": ("5f0c3a51-29f1-4b7e-9d56-0f4f6a3d2c11", "--yes"),
    "privacy prepare": (),
    "privacy retention list": (),
    "privacy retention remove": (),
    "privacy retention run": (),
    "privacy retention set": ("--days", "1"),
    "privacy rewrap": (),
    "privacy rewrite abandon": ("--yes",),
    "privacy rewrite copy": (),
    "privacy rewrite finish": ("--yes",),
    "privacy rewrite plan": (),
    "privacy rewrite switch": ("--yes",),
    "privacy rewrite verify": (),
    "rebuild cancel": (),
    "rebuild drop": (),
    "rebuild pause": (),
    "rebuild promote": ("--force",),
    "rebuild resume": (),
    "rebuild rollback": (),
    "rebuild start": (),
    "rebuild status": (),
    "rebuild verify": (),
    "replay": (),
    "sql": ("-c", "SELECT 1"),
    "status": (),
    "topics check": (),
    "topics create": (),
}
REPORTS = ("doctor",)  # says what failed as a finding, on standard output
KAFKA_ALONE = (
    "command-side",
    "replay",
    "topics check",
    "topics create",
    *(name for name in ARGUMENTS if name.startswith("keys ")),
)
KEY_STORE = ("privacy forget-months", "privacy give-up", "privacy prepare", "privacy rewrap")
WITH_DATABASE = [name for name in (*ARGUMENTS, *PROCESSES) if name not in (*KAFKA_ALONE, "privacy prepare")]
OPERATORS = [name for name in ARGUMENTS if name not in (*KAFKA_ALONE, *KEY_STORE)]
FIRST, SECOND = "Sesame1", "Sesame2"  # the pieces of a password, on both sides of a character


def footfall(command: str, *options: str, **environment: str) -> Result:
    """One command in this process, without anything of ours in its environment but this.

    Kafka's usual port is not left to the default: another test's `up` may be there.
    """
    nowhere = {"ENVIRONMENT": "test", "STARTUP_TIMEOUT_MS": "0", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    arguments = [*command.split(), *{**ARGUMENTS, **OF_OTHERS}.get(command, ()), *options]
    return CliRunner().invoke(cli, arguments, env=nowhere | environment)


def ends(command: str, url: str) -> bool:
    """Whether a command ends by itself where there is no database: the console serves, if the URL is one."""
    if command != "console":
        return True
    try:
        parse(url)
    except DatabaseUrlError:
        return True
    return False


def urls(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url, "REPORTING_DATABASE_URL": url}


def assert_a_sentence(run: Result, *words: str) -> str:
    """It failed with one readable line or two; nothing was raised out of it."""
    assert run.exit_code in (1, 2), run.output
    assert isinstance(run.exception, SystemExit), repr(run.exception)
    assert "Traceback" not in run.output
    assert 1 <= len(run.stderr.splitlines()) <= 3, run.stderr
    assert all(word in run.stderr for word in words), run.stderr
    assert FIRST not in run.output
    assert SECOND not in run.output
    return run.stderr
