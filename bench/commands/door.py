"""Measures what a key costs a POST: the door that checks it, and the request that is longer by it."""

import asyncio

from bench.in_turn import Way, posts_in_turn
from bench.result import Result
from bench.stage import Stage
from brokers.settings import KafkaSettings
from identity.keys.administration import Wanted, create
from identity.keys.topic import ensure_topic, opened
from web.policies.principal import DEFAULT_TENANT

TOPIC = "bench-door-keys"
OPEN = "open"


def door(stage: Stage) -> list[Result]:
    """POST/s and CPU of a POST at 64 connections with a key, in turn with an open command side; both of one tenant."""
    [key] = asyncio.run(keys_for(stage.stack.kafka_bootstrap, TOPIC, [DEFAULT_TENANT]))
    ways = {OPEN: Way({}), "keys": Way({"AUTH": "keys", "KAFKA_KEYS_TOPIC": TOPIC}, key)}
    return posts_in_turn(stage, "door", OPEN, ways)


async def keys_for(kafka: str, topic: str, tenants: list[str]) -> list[str]:
    """Makes a register of keys, and a secret key of each tenant."""
    options = KafkaSettings(kafka_bootstrap_servers=kafka).client_options()
    await ensure_topic(options, topic, 1)
    async with opened(options, topic) as register:
        return [(await create(register, Wanted("secret", tenant, "bench", "bench"))).key for tenant in tenants]
