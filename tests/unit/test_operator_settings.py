"""Operators' commands beside `footfall up`: without variables they expect the topics that it makes."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from footfall.cli.settings import operator_settings
from operations.settings import TopicSettings


@pytest.mark.parametrize(
    ("brokers", "named", "expected"),
    [("a:1", {}, (6, 1)), ("a:1,b:2,c:3", {}, (10, 3)), ("a:1,b:2,c:3", {"KAFKA_PARTITIONS": "12"}, (12, 3))],
    ids=["one broker", "three brokers", "named by a variable"],
)
def test_topics_have_the_shape_that_up_gives_them(
    brokers: str, named: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_PARTITIONS", "KAFKA_REPLICATION_FACTOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("footfall.cli.settings.state_dir", lambda: Path("state"))
    monkeypatch.setattr("footfall.local.reporter.running_stack", lambda _: SimpleNamespace(kafka=brokers))
    found = operator_settings(TopicSettings, "owner")
    assert found.kafka_bootstrap_servers == brokers
    assert (found.kafka_partitions, found.kafka_replication_factor) == expected
