"""What the command side says of its topic: whether it may write, and which promises the topic breaks."""

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from command_side.publishing.produce_round import CLOCK
from command_side.publishing.topic_description import promises, rights
from contracts.topic_promises import Accepts, Topic, broken_promises
from telemetry.health import DependencyState
from telemetry.logs import get_logger

LOOK_AGAIN = 10.0  # seconds between looks at the topic's configuration, which somebody may change
PATIENCE = 5.0  # seconds of the look at the start; whatever Kafka does not tell then is told by a later one


class TopicWatch:
    """Asks over the connection of the producer that `client` gives."""

    def __init__(
        self, client: Callable[[], AIOKafkaClient], topic: str, times_refused: Callable[[], bool] = lambda: False
    ) -> None:
        self._client = client
        self._times_refused = times_refused
        self._topic = topic
        self._looked_at = float("-inf")
        self._broken: Sequence[str] = ()
        self._accepts, self._told = Accepts.NOT_TOLD, list[str]()  # and what was said, when it was told last
        self._log = get_logger("command_side")

    async def at_start(self) -> None:
        """Names in the log what is wrong with the topic; it is no reason not to start."""
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self.state()
        except (KafkaError, TimeoutError) as error:
            self._log.warning("topic_not_checked", error=type(error).__name__)
            return
        if not found.ok:
            self._log.error("topic_not_writable", reason=found.detail)

    async def state(self) -> DependencyState:
        """For health. Raises KafkaError when no broker answers."""
        allowed = await rights(self._client(), self._topic)
        if allowed.may_write is False:
            return DependencyState(ok=False, detail=allowed.problem)
        if self._times_refused():
            return DependencyState(ok=False, detail=CLOCK)
        said = list(await self._promises())
        if self._accepts is Accepts.NOTHING:
            return DependencyState(ok=False, detail=" ".join(said))
        if allowed.may_write is None:
            said.append(f"Kafka does not tell whether topic {self._topic} may be written to.")
        return DependencyState(ok=True, detail=" ".join(said))

    async def _promises(self) -> Sequence[str]:
        if self._accepts is Accepts.NOTHING or time.monotonic() - self._looked_at > LOOK_AGAIN:
            broken = self._judged(await promises(self._client(), self._topic))
            for sentence in broken:
                if sentence not in self._broken:
                    self._log.warning("topic_promise_broken", reason=sentence)
            self._broken, self._looked_at = broken, time.monotonic()
        return self._broken

    def _judged(self, found: Topic) -> Sequence[str]:
        """A topic that was closed stays so until Kafka tells that it accepts records: silence opens nothing."""
        broken = broken_promises(found)
        if found.accepts is Accepts.NOT_TOLD and self._accepts is Accepts.NOTHING:
            return [*broken, *self._told]
        self._accepts, self._told = found.accepts, broken
        return broken
