"""Runs the brokers of one stack, one or several, as one cluster."""

import contextlib
import json
import subprocess
from collections.abc import Sequence

from footfall.local.embedded.child_process import Child
from footfall.local.embedded.kafka.broker import (
    KafkaBroker,
    begin_format,
    finish_format,
    new_cluster_id,
    start_broker,
    wait_for_broker,
)
from footfall.local.embedded.paths import StatePaths
from footfall.local.embedded.stack_error import StackError

MOST_BROKERS = 9


class KafkaCluster:
    """The brokers, and their processes as children of this one.

    A broker that ends is started again by `restart_ended`: the others go on meanwhile, and it catches up with them.
    """

    def __init__(self, brokers: Sequence[KafkaBroker]) -> None:
        self.brokers = brokers
        self._children: dict[int, Child] = {}  # by node

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers, comma separated."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids, in the order of the nodes."""
        return tuple(self._children[broker.node].process.pid for broker in self.brokers)

    @property
    def children(self) -> list[Child]:
        """The brokers' latest processes."""
        return list(self._children.values())

    def begin_format(self) -> list[tuple[KafkaBroker, Child]]:
        """Begins to format what is not formatted; `finish_format` waits for the end."""
        cluster_id = self._cluster_id()
        begun = []
        for broker in self.brokers:
            broker.home.mkdir(mode=0o700, exist_ok=True)
            formatting = begin_format(broker, cluster_id)
            if formatting is not None:
                begun.append((broker, formatting))
        return begun

    def finish_format(self, begun: Sequence[tuple[KafkaBroker, Child]]) -> None:
        """Waits for `begin_format`. The last node comes first: it says how many brokers this state is of."""
        for broker, formatting in reversed(begun):
            finish_format(broker, formatting)

    def start(self) -> None:
        """Starts all brokers and returns at once; `wait` waits until they are in service."""
        for broker in self.brokers:
            self.start_node(broker.node)

    def start_node(self, node: int) -> Child:
        """Starts one broker and returns at once."""
        self._children[node] = start_broker(self.brokers[node - 1])
        return self._children[node]

    def wait(self) -> None:
        """Waits until all brokers are in service. Raises StackError if one does not get there."""
        for broker in self.brokers:
            wait_for_broker(broker, self._children[broker.node])

    def process(self, node: int) -> "subprocess.Popen[bytes]":
        """Returns the latest process of a broker."""
        return self._children[node].process

    def controller(self) -> int:
        """Returns the node that leads the controllers, as the brokers' files say it (KIP-595, quorum-state)."""
        told = []
        for broker in self.brokers:
            with contextlib.suppress(OSError, ValueError):  # it is being replaced at this moment
                told.append(json.loads((broker.data / "__cluster_metadata-0" / "quorum-state").read_text()))
        elected = [state for state in told if state["leaderId"] > 0]
        return int(max(elected, key=lambda state: state["leaderEpoch"])["leaderId"])

    def restart_ended(self) -> list[str]:
        """Starts each broker again that has ended; returns a sentence for each."""
        said = []
        for broker in self.brokers:
            if self.process(broker.node).poll() is not None:
                said.append(f"Broker {broker.node} has ended and is started again; its log is {broker.log_path}.")
                self.start_node(broker.node)
        return said

    def _cluster_id(self) -> str:
        """Returns the id of the cluster whose formatting a kill interrupted, or a new one."""
        for broker in self.brokers:
            properties = broker.data / "meta.properties"
            if properties.exists():
                lines = dict(line.split("=", 1) for line in properties.read_text().splitlines() if "=" in line)
                return lines["cluster.id"]
        return new_cluster_id()


def brokers_of_state(paths: StatePaths, asked: int | None) -> int:
    """Returns how many brokers to run on this state: as many as it was made for, which is 1 unless asked otherwise.

    Raises:
        StackError: The state was made for another number of brokers.
    """
    known = [node for node in range(1, MOST_BROKERS + 1) if (paths.broker(node) / "data").exists()]
    made_for = max(known, default=None)
    if None not in (asked, made_for) and asked != made_for:
        raise StackError(
            f"{paths.root} was made for {made_for} broker{'s' * (made_for != 1)}, and a cluster does not change its "
            f"size in place. Ask for --brokers {made_for}, or pass --state-dir with another directory."
        )
    return asked or made_for or 1
