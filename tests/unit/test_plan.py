"""`footfall plan`: the model's arithmetic, against what was measured and against what must always hold."""

import json

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from footfall.cli.main import cli
from operations.scaling.costs import MEASURED
from operations.scaling.model import Load, most_of_a_machine, most_of_one_loop, plan

# Throughput that docs/performance.md has (a quiet machine, 2026-11-23). The model's costs are CPU an event, which was
# measured apart from it.
POSTS = 27_400  # one command side, 64 connections
BATCHED = 183_900  # one command side, batches of 500, zstd
EVENTS_ONLY = 91_900  # two projectors without projections, beside PostgreSQL and Kafka, two cores
EVERYTHING = 61_300  # the same with all projections
loads = st.builds(
    Load,
    rate=st.floats(0.01, 1e6),
    retention_days=st.floats(0.1, 3_650),
    rows_days=st.floats(0.1, 3_650),
    peak=st.floats(1, 20),
    event_bytes=st.integers(50, 16_384),
    batched=st.floats(0, 1),
)


@pytest.mark.parametrize(
    ("predicted", "measured"),
    [
        (most_of_one_loop(MEASURED.post_us), POSTS),
        (most_of_one_loop(MEASURED.batched_us), BATCHED),
        (most_of_a_machine(2, msgspec.structs.replace(MEASURED, projector_us=8.0, postgresql_us=10.7)), EVENTS_ONLY),
        (most_of_a_machine(2), EVERYTHING),
    ],
    ids=["posts", "batches", "events only", "all projections"],
)
def test_costs_of_an_event_predict_the_throughput_that_was_measured(predicted: float, measured: float) -> None:
    assert predicted == pytest.approx(measured, rel=0.1)


def test_a_plan_by_hand() -> None:
    costs = msgspec.structs.replace(
        MEASURED, post_us=30, broker_us=4, projector_us=12, postgresql_us=18, log_bytes=60, row_bytes=600
    )
    found = plan(Load(rate=10_000, retention_days=100, rows_days=10, peak=2), costs)
    assert found.peak_rate == 20_000
    assert (found.command_sides, found.projectors, found.partitions, found.brokers) == (2, 2, 6, 3)
    assert found.command_cores == pytest.approx(20_000 * 30e-6 / 0.6)
    assert found.postgresql_cores == pytest.approx(0.6)
    assert found.log_bytes == pytest.approx(10_000 * 86_400 * 100 * 3 * 60)
    assert found.row_bytes == pytest.approx(10_000 * 86_400 * 10 * 600)
    assert found.postgresql_servers == 1


@given(loads)
def test_a_plan_bears_its_load_and_more_load_never_needs_less(load: Load) -> None:
    found = plan(load)
    assert found.command_sides >= found.command_cores
    assert found.partitions >= found.projectors >= found.projector_cores
    assert found.postgresql_servers * 32 >= found.postgresql_cores
    assert found.brokers >= 3
    assert found.advice
    more = plan(msgspec.structs.replace(load, rate=2 * load.rate))
    for name in (
        "command_sides",
        "partitions",
        "projectors",
        "brokers",
        "log_bytes",
        "postgresql_servers",
        "row_bytes",
    ):
        assert getattr(more, name) >= getattr(found, name), name


def test_a_million_events_a_second_are_no_work_for_one_postgresql_and_the_plan_says_so() -> None:
    found = plan(Load(rate=1_000_000, retention_days=30, rows_days=7))
    assert found.postgresql_servers > 1
    assert any("divide the tenants" in sentence for sentence in found.advice)
    assert any("batches" in sentence for sentence in found.advice)


def test_the_command_prints_the_plan_for_people_and_for_programs() -> None:
    told = CliRunner().invoke(cli, ["plan", "--rate", "1000", "--retention", "365"])
    assert told.exit_code == 0, told.output
    assert "1,000 events/s, 3,000 at the peak" in told.output
    assert "6 partitions, 3 copies" in told.output
    printed = CliRunner().invoke(cli, ["plan", "--rate", "1000", "--retention", "365", "--json"])
    assert json.loads(printed.output)["partitions"] == 6
    refused = CliRunner().invoke(cli, ["plan", "--rate", "0", "--retention", "1"])
    assert refused.exit_code == 2
