"""Rebuilds and re-drives as an operator starts them, and where a generation stands."""

import time
from collections.abc import Mapping
from unittest.mock import patch

from click.testing import CliRunner

from footfall.cli.main import cli
from footfall.cli.output import dead_letters as dlq_terminal
from tests.conftest import Footfall
from tests.processes import wait_until
from tests.producing import Raw, an_event, record_of, sql

OLD, NEW = "read_g1", "read_g2"


def rebuild(footfall: Footfall, *arguments: str, code: int = 0) -> str:
    """`footfall rebuild <arguments>` as an operator runs it; returns what it prints."""
    role = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.admin_url, "COLUMNS": "200"}
    run = CliRunner().invoke(cli, ["rebuild", *arguments], env={**role, **footfall.environment()})
    assert run.exit_code == code, f"{run.output}{run.exception!r}"
    return run.output


def dlq(footfall: Footfall, *arguments: str, keys: Mapping[str, str] | None = None) -> None:
    """`footfall dlq <arguments>`. `keys`: the environment of a sealed log."""
    dlq_told(footfall, *arguments, more=keys)


def dlq_told(footfall: Footfall, *arguments: str, more: Mapping[str, str] | None = None, code: int = 0) -> str:
    """`footfall dlq <arguments>` with more of its environment; returns what it prints."""
    role = {"ENVIRONMENT": "test", "DATABASE_URL": footfall.servers.projector_url, **(more or {})}
    with patch.object(dlq_terminal, "configure_logs"):  # this process has its own
        run = CliRunner().invoke(cli, ["dlq", *arguments], env=role)
    assert run.exit_code == code, f"{run.output}{run.exception!r}"
    return run.output


def done(footfall: Footfall, generation: str) -> int:
    """Events that the generation's checkpoints have passed."""
    found = sql(footfall.servers, f"SELECT coalesce(sum(next_offset), 0)::bigint AS done FROM {generation}.checkpoints")
    return int(found[0]["done"])


def wait_until_done(footfall: Footfall, generation: str, count: int, within: float = 60.0) -> None:
    def reached() -> bool:
        time.sleep(0.1)  # each look is a connection
        return done(footfall, generation) >= count

    wait_until(reached, within, f"{generation} to pass {count}")


def state_of(footfall: Footfall, generation: str) -> str | None:
    found = sql(footfall.servers, f"SELECT state FROM ops.generations WHERE name = '{generation}'")
    return found[0]["state"] if found else None


def a_day(count: int) -> list[Raw]:
    """Events of every type: users log in, look at products, log out."""
    kinds = ("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT", "PRODUCT_VIEW")
    return [
        record_of(an_event(f"user-{n % 37}", {"productId": f"p-{n % 11}"}, event_type=kinds[n // 37 % 5]))
        for n in range(count)
    ]
