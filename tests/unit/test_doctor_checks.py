"""What the doctor concludes from what it was told: tables of facts, without servers."""

from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.errors import NodeNotReadyError
from pydantic import SecretStr

from contracts.topic_promises import topic_told
from operations.doctor import kafka
from operations.doctor.certificates import judged
from operations.doctor.configured import settings_findings
from operations.doctor.findings import Finding, worst
from operations.doctor.kafka import TRIES, answered, copies, other_topics, timed
from operations.doctor.projectors import at_risk, builds, members, standing_findings
from operations.doctor.retention import A_DAY_MS, Kept, not_declared, overdue, shorter_topic
from operations.doctor.sinks import sink_findings
from operations.status.report import GenerationStatus, PartitionStatus, SinkStatus
from projector.consuming.consumer_group import CLIENT_ID, GroupDescription, Member
from projector.liveness.verdicts import State
from projector.settings import ProjectorSettings

NOW = datetime(2026, 11, 26, tzinfo=UTC)
OURS = Member(CLIENT_ID.format(owner="a:1", generation="read_g1"), "/10.0.0.1")
URL = SecretStr("postgresql://a@localhost/b")
STRANGER = Member("nightly-export", "/10.0.0.2")


def only(found: list[Finding]) -> Finding:
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("left", "verdict"), [(timedelta(days=30), "well"), (timedelta(days=3), "warning"), (timedelta(0), "problem")]
)
def test_a_certificate_is_told_before_and_after_its_end(left: timedelta, verdict: str) -> None:
    found = only(judged({"the broker kafka:9093": NOW + left}, NOW))
    assert found.verdict == verdict
    assert (verdict == "well") == (found.remedy == "")
    assert verdict == "well" or "kafka:9093" in found.says


def test_a_stranger_in_the_group_is_named() -> None:
    well = only(members("g", GroupDescription("Stable", (OURS,)), "read_g1", 6))
    assert (well.verdict, well.says) == ("well", "1 projectors share 6 partitions.")
    assert (
        "1 of them have nothing to do" in only(members("g", GroupDescription("Stable", (OURS,) * 2), "read_g1", 1)).says
    )
    found = only(members("g", GroupDescription("Stable", (OURS, STRANGER)), "read_g1", 6))
    assert (found.verdict, "nightly-export" in found.says) == ("problem", True)
    assert only(members("g", GroupDescription("", error="GroupAuthorizationFailedError"), "g", 6)).verdict == "unknown"


def test_a_lag_that_nears_the_retention_is_a_problem() -> None:
    partitions = [PartitionStatus(n, "running", "a", 1, 9, 8, float(age)) for n, age in enumerate((1, 400))]
    assert only(at_risk("t", None, partitions)).verdict == "well"
    assert only(at_risk("t", 10_000, partitions)).verdict == "well"
    found = only(at_risk("t", 500, partitions))
    assert found.verdict == "problem"
    assert found.says.startswith("Partition 1 is 400 s behind")
    assert "retention.ms=-1" in found.remedy


def test_a_topic_that_forgets_before_the_read_model_does_is_told() -> None:
    kept = [Kept("", 30), Kept("acme", 5)]
    topic = topic_told("t", {"retention.ms": str(7 * A_DAY_MS)})
    found = only(shorter_topic(topic, kept))
    assert (found.verdict, "(RETENTION_DAYS) for 30 days" in found.says) == ("warning", True)
    assert "at most 7 days" in found.remedy
    assert shorter_topic(topic_told("t", {"retention.ms": "-1"}), kept) == []
    assert shorter_topic(topic_told("t", {}), kept) == []  # the check of the topic says that it is not known


def test_a_setting_that_no_projector_declared_and_events_that_should_be_gone_are_told() -> None:
    settings = ProjectorSettings(database_url=URL, retention_days=30)
    assert not_declared(settings, [Kept("", 30), Kept("acme", 5)]) == []
    assert only(not_declared(settings, [Kept("acme", 30)])).says.endswith("the projectors have declared none.")
    assert not_declared(ProjectorSettings(database_url=URL), [Kept("", 30)]) == []
    assert "2026-11-26" in only(overdue([("acme", NOW)])).says


def test_a_topic_that_takes_no_events_and_topics_that_are_not_there() -> None:
    behind = {"partition": 0, "leader": 1, "replicas": [1, 2, 3], "isr": [1]}
    assert worst(copies([behind], least=1)) == "warning"
    assert only(copies([behind], least=2)).verdict == "problem"
    assert only(other_topics(["a"], ["a", "b"])).says == "There is no topic b."


def test_a_misspelt_variable_and_times_that_do_not_fit() -> None:
    settings = ProjectorSettings(database_url=URL, kafka_session_timeout_ms=6_000, kafka_heartbeat_interval_ms=3_000)
    found = settings_findings(settings, {"KAFKA_TOPICS": "x", "KAFKA_KEYS_TOPIC": "y", "PATH": "z", "HOME": "h"})
    assert [each.verdict for each in found] == ["warning", "warning"]
    assert "KAFKA_TOPIC meant?" in found[0].says
    assert "KAFKA_HEARTBEAT_INTERVAL_MS" in found[1].says
    assert (
        worst(settings_findings(ProjectorSettings(database_url=URL), {"KAFKA_TOPIC": "x", "KAFKA_TOPICS": "y"}))
        == "well"
    )


def test_a_broker_that_answers_slowly_and_a_rebuild_that_nobody_works_on() -> None:
    assert answered(3, 0.01) == Finding("Kafka", "well", "3 brokers answer.")
    assert (answered(3, 2.5).verdict, "2.5 s" in answered(3, 2.5).says) == ("warning", True)
    left = PartitionStatus(0, "unowned", None, 5, 9, 4, None, well=False)
    worked_on = PartitionStatus(1, "running", "a", 5, 9, 4, None)
    assert only(builds([GenerationStatus("read_g2", "building", 0.5, [left, worked_on])])).verdict == "well"
    assert only(builds([GenerationStatus("read_g2", "paused", 0.5, [left])])).verdict == "well"
    assert "read_g2 has read 50%" in only(builds([GenerationStatus("read_g2", "building", 0.5, [left])])).says


def test_a_sink_that_nobody_runs_is_told_of_once_it_is_behind() -> None:
    done = PartitionStatus(0, "unowned", None, 5, 5, 0, 0.0, "nobody", well=False)
    behind = PartitionStatus(1, "unowned", None, 5, 8, 3, 9.0, "nobody", well=False)
    assert sink_findings([]) == []
    assert [each.verdict for each in sink_findings([SinkStatus("sink_a", 1.0, [done])])] == ["well"]
    [found] = sink_findings([SinkStatus("sink_a", 0.5, [done, behind])])
    assert (found.verdict, found.says) == ("warning", "Nobody runs sink_a, which is 3 events behind.")


def test_partitions_that_stand_for_one_reason_are_one_finding_with_what_to_do() -> None:
    def at(partition: int, state: State, reason: str | None, *, well: bool = False) -> PartitionStatus:
        return PartitionStatus(partition, state, None, 0, 0, 0, None, reason, well)

    alone, cause = "no projector is assigned to it", "disk_full: make room"
    partitions = [at(each, "unowned", alone) for each in (4, 0, 1, 2)]
    partitions += [at(3, "stopped", cause), at(5, "idle", None, well=True)]
    found = standing_findings(
        [
            GenerationStatus("read_g1", "active", 1.0, partitions),
            GenerationStatus("read_g2", "building", 0.5, [at(0, "unowned", alone), at(1, "standing", "for 20 s")]),
        ]
    )
    assert [each.says for each in found] == [
        f"read_g1, partitions 0 to 2, 4 are not projected: {alone}.",
        f"read_g1, partition 3 has stopped: {cause}.",
        "read_g2, partition 1 stands still: for 20 s.",
    ]
    assert [bool(each.remedy) for each in found] == [True, False, True], "a stop's cause has its remedy"


@pytest.mark.parametrize("gone", [0, 2, TRIES - 1, TRIES])
async def test_a_question_to_a_broker_that_is_gone_is_put_again(gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka puts it to any broker that the cluster names."""
    monkeypatch.setattr(kafka, "PAUSE", 0)
    asked = 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if asked <= gone:
            raise NodeNotReadyError
        return "known"

    if gone < TRIES:
        assert (await timed(ask))[0] == "known"
    else:
        with pytest.raises(NodeNotReadyError):
            await timed(ask)
    assert asked == min(gone + 1, TRIES)
