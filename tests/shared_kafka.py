"""One Kafka for all workers of a run. A broker of each worker's own would idle, and have its code to compile."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from footfall.local.embedded.kafka.class_archive import archive_classes
from tests.drivers.own_broker import OwnBroker
from tests.own_postgres import own_postgres
from tests.servers import Servers, chosen

ADDRESS = "FOOTFALL_TESTS_KAFKA"  # set for the workers by the process that started it
HOME = "FOOTFALL_TESTS_KAFKA_HOME"


class SharedKafka:
    """Runs from the moment at which workers are started until the run is over."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Starts it, unless the run has other servers; the workers inherit its address."""
        # A proof at length looks at the files of its own worker's servers.
        if chosen() != "embedded" or "FOOTFALL_LONG" in os.environ:
            return
        self._directory = tempfile.TemporaryDirectory(prefix="footfall-tests-")
        self._broker = OwnBroker(Path(self._directory.name))
        os.environ |= {ADDRESS: self._broker.address, HOME: self._directory.name}

    def end(self) -> None:
        """Ends it at once: an orderly end writes every topic of the run to the disk, for seconds."""
        if self._directory is not None:
            archive_classes(self._broker.jars, self._broker.pid)
            self._broker.kill()
            self._directory.cleanup()


@contextmanager
def beside_shared_kafka(state_dir: Path) -> Iterator[Servers]:
    """A PostgreSQL of this worker's own, beside the Kafka of all."""
    state_dir.mkdir()
    (state_dir / "kafka").symlink_to(os.environ[HOME])
    with own_postgres(migrated=False, within=state_dir) as postgres:
        yield replace(postgres.servers(os.environ[ADDRESS]), files=state_dir)
        assert postgres.child is not None
        os.kill(postgres.child.process.pid, signal.SIGQUIT)
