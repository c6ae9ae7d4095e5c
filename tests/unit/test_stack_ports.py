"""The ports of stacks that start at the same moment: nobody listens yet, and still no two stacks choose the same."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from footfall.local.embedded import StackError
from footfall.local.embedded.ports import claim_ports


def test_stacks_of_two_users_that_start_at_once_have_ports_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories = [tmp_path / "first", tmp_path / "second"]
    with claim_ports(memories[0], None, None) as first:
        memories[1].write_text(json.dumps(asdict(first)))  # both would rather have the same
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
        with claim_ports(memories[1], None, None) as second:
            ports = [{each.kafka, each.controller, each.postgres, each.kafka_admin} for each in (first, second)]
    assert len(ports[0] | ports[1]) == 8


def test_a_port_that_a_starting_stack_has_claimed_is_refused_by_name_and_free_afterwards(tmp_path: Path) -> None:
    with claim_ports(tmp_path / "first", None, None) as first:
        message = rf"Port {first.postgres}, asked for PostgreSQL, is taken by process {os.getpid()} "
        with pytest.raises(StackError, match=message), claim_ports(tmp_path / "second", None, first.postgres):
            pass
    with claim_ports(tmp_path / "second", None, first.postgres) as second:
        assert second.postgres == first.postgres
