"""Planted faults of the command side: small patches of what runs, each of which the checker must catch."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
from uuid_utils.compat import uuid7

from chaos.planted.patching import replace
from command_side.idempotency import Follow
from command_side.publishing import kafka_event_log, produce_round
from command_side.publishing.event_log import ACKNOWLEDGED, SOMEWHERE, Acknowledged, Outcome
from command_side.publishing.kafka_producer import KafkaProducer

log: Any = kafka_event_log.KafkaEventLog  # a patch has no public types; `replace` fails if the code is no longer there


def new_id_on_retry() -> None:
    """The command side sends some batches again, under new event ids."""
    producer: Any = KafkaProducer
    usual, chance = producer.submit, random.Random(1)

    async def submit(self: Any, partition: int, waiting: Any) -> Any:
        sent, count = await usual(self, partition, waiting)
        if chance.random() < 0.02:
            await sent
            kept = [one.record for one in waiting]
            for one in waiting:
                one.record = _under_a_new_id(one.record)
            again, _ = await usual(self, partition, waiting)
            await again
            for one, record in zip(waiting, kept, strict=True):
                one.record = record
        return sent, count

    replace(producer, "submit", submit)


def _under_a_new_id(record: Any) -> Any:
    old, new = dict(record.headers)["event-id"], str(uuid7()).encode()
    headers = [(name, new if name == "event-id" else value) for name, value in record.headers]
    return msgspec.structs.replace(record, value=record.value.replace(old, new), headers=headers)


def scatters_users() -> None:
    """Some records go to another partition than their user's."""
    usual, chance = produce_round.partition_chooser, random.Random(1)

    def chooser(partitions: int) -> Callable[[bytes], int]:
        choose = usual(partitions)
        return lambda key: chance.randrange(partitions) if chance.random() < 0.02 else int(choose(key))

    replace(produce_round, "partition_chooser", chooser)


def acknowledges_early() -> None:
    """A command is acknowledged before Kafka has acknowledged it."""
    usual = log.publish_nowait

    def publish_nowait(self: Any, record: Any, on_result: Any) -> Any:
        pending = usual(self, record, lambda _: None)
        on_result(Acknowledged(0, 0))
        return pending

    replace(log, "publish_nowait", publish_nowait)


def acknowledges_who_follows() -> None:
    """A repeated command that waits for an unacknowledged record is answered as if it were acknowledged."""
    awaited, called = Follow.outcome, Follow.on_outcome

    def false(found: Outcome) -> Outcome:
        return found if isinstance(found, ACKNOWLEDGED) else SOMEWHERE

    async def outcome(self: Any) -> Outcome:
        return false(await awaited(self))

    def on_outcome(self: Any, call: Callable[[Outcome], None]) -> None:
        called(self, lambda found: call(false(found)))

    replace(Follow, "outcome", outcome)
    replace(Follow, "on_outcome", on_outcome)
