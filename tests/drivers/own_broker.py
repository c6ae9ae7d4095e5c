"""A broker of a test's own, that may be frozen, stopped, killed and started again."""

import signal
from pathlib import Path

from rich.console import Console

from footfall.local.embedded.child_process import stop_children
from footfall.local.embedded.kafka.broker import KafkaBroker, begin_format, finish_format, start_broker, wait_for_broker
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from tests.patience import PATIENCE
from tests.ports import free_port


class OwnBroker:
    """A broker that may be frozen, stopped, killed and started again."""

    def __init__(self, home: Path) -> None:
        self.jars = ensure_kafka_jars(Console(quiet=True))
        self._broker = KafkaBroker(home, self.jars, free_port(), free_port(), brief=True)
        self.address = self._broker.bootstrap
        formatting = begin_format(self._broker)
        assert formatting is not None
        finish_format(self._broker, formatting)
        self.start()

    def start(self) -> None:
        self._child = start_broker(self._broker)
        wait_for_broker(self._broker, self._child)

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def runs(self) -> bool:
        return self._child.process.poll() is None

    def send_signal(self, name: signal.Signals) -> None:
        self._child.process.send_signal(name)

    def kill(self) -> None:
        self._child.process.kill()
        self._child.process.wait(PATIENCE)

    def stop(self) -> None:
        stop_children([self._child])

    def copy_of(self, topic: str) -> Path:
        """The log of the topic's first partition."""
        return self._broker.data / f"{topic}-0"
