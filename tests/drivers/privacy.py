"""`footfall privacy` as an operator runs it."""

from collections.abc import Mapping

from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall


def privacy(
    footfall: Footfall, *arguments: str, code: int = 0, given: str = "", keys: Mapping[str, str] | None = None
) -> str:
    """`footfall privacy <arguments>`; returns what it prints, with errors if it fails."""
    url = footfall.servers.admin_url if arguments[0] == "retention" else footfall.servers.projector_url
    role = {"ENVIRONMENT": "test", "DATABASE_URL": url, **(keys or {})}
    run = CliRunner().invoke(cli, ["privacy", *arguments], env={**role, **footfall.environment()}, input=given)
    assert run.exit_code == code, f"{run.output}{run.exception!r}"
    return run.output if code else run.stdout
