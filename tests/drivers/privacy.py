"""`footfall privacy` as an operator runs it."""

from click.testing import CliRunner

from footfall.cli.main import cli
from tests.conftest import Footfall


def privacy(footfall: Footfall, *arguments: str, code: int = 0, given: str = "") -> str:
    """`footfall privacy <arguments>`; returns what it prints, with errors if it fails."""
    url = footfall.servers.admin_url if arguments[0] == "retention" else footfall.servers.projector_url
    role = {"ENVIRONMENT": "test", "DATABASE_URL": url}
    run = CliRunner().invoke(cli, ["privacy", *arguments], env={**role, **footfall.environment()}, input=given)
    assert run.exit_code == code, f"{run.output}{run.exception!r}"
    return run.output if code else run.stdout
